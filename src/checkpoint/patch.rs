//! Patches: a file that turns one checkpoint into another and, if it is reversible, back, bit for bit.
//!
//! A patch is itself a safetensors file, so that any reader of the format can look into it. For each tensor `T` that
//! differs between the two checkpoints it holds vectors of equal length:
//!
//! | vector | element type | contents |
//! |---|---|---|
//! | `positions/T` | U32; U64 if `T` has over 2³² elements | flat indices of the elements that differ, increasing |
//! | `new/T` | that of `T` | their values in the edited checkpoint |
//! | `old/T` | that of `T` | their values in the base checkpoint; only in reversible patches |
//!
//! Where the change is of low rank and its factors are smaller, a reversible patch holds these instead:
//!
//! | tensor | element type | contents |
//! |---|---|---|
//! | `left/T` | F32 `[rows, rank]` | the edited matrix is the old one plus left · rightᵀ, in double precision, term after term in |
//! | `right/T` | F32 `[columns, rank]` | the order of the rank, rounded once to the stored type |
//! | `positions/T`, `old/T` | as above | the elements that do not come back when the product is taken away again; absent if all do |
//!
//! A forward patch never holds factors: whoever has the edited checkpoint could take them back.
//!
//! A tied weight that is stored twice is two tensors here. The header's metadata holds `format` = `efface-patch`,
//! `version` = `1` (`2` where there are factors), `kind` = `reversible` or `forward`, `base_sha256` and `result_sha256` (the hashes of the two
//! checkpoints: [`Checkpoint::sha256`]), and whatever else the writer was given.
//!
//! The hashes decide: a patch is applied only to the checkpoint that it was made from, reverted only on the one that
//! it led to, and the result is kept only if it has the hash that the patch promises.

use std::collections::BTreeMap;
use std::path::Path;

use super::changes::{Change, read_changes};
use super::header::TensorInfo;
use super::low_rank::LowRank;
use super::read::Checkpoint;
use super::tensor_file::TensorFile;
use super::write::{check_output, stage_edited};
use crate::{Error, Result};

/// The value of the metadata key `format`.
pub(super) const FORMAT: &str = "efface-patch";
/// The value of the metadata key `version`.
pub(super) const VERSION: &str = "1";
/// Its value in patches that hold factors, which an older program must not take for damaged.
pub(super) const VERSION_WITH_FACTORS: &str = "2";
/// Metadata keys that the format itself uses.
pub(super) const RESERVED_KEYS: [&str; 5] = ["format", "version", "kind", "base_sha256", "result_sha256"];
/// What the vectors' names begin with.
pub(super) const POSITIONS: &str = "positions/";
pub(super) const NEW: &str = "new/";
pub(super) const OLD: &str = "old/";
pub(super) const LEFT: &str = "left/";
pub(super) const RIGHT: &str = "right/";

/// Which directions a patch works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// Both: it holds old and new values, hence what was removed. A secret.
    Reversible,
    /// From the base to the edited checkpoint only: it holds new values.
    Forward,
}

impl PatchKind {
    /// The name in the patch's metadata.
    pub fn name(self) -> &'static str {
        match self {
            PatchKind::Reversible => "reversible",
            PatchKind::Forward => "forward",
        }
    }
}

/// Which of the two checkpoints a value comes from.
#[derive(Clone, Copy)]
enum Side {
    New,
    Old,
}

/// An open patch whose form has been checked.
#[derive(Debug)]
pub struct Patch {
    file: TensorFile,
    kind: PatchKind,
    /// By the name of the tensor that they change.
    changes: BTreeMap<String, Change>,
}

impl Patch {
    /// Opens the patch `path`.
    ///
    /// # Errors
    /// When the file is no patch, of another version, or contradicts itself.
    pub fn open(path: &Path) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let wrong = |key: &str, problem: String| Error::file(path, format!("metadata `{key}`"), problem);
        let value = |key: &str| file.metadata().get(key).map_or("", String::as_str);
        if value("format") != FORMAT {
            return Err(wrong("format", format!("is `{}`, where a patch has `{FORMAT}`", value("format"))));
        }
        if ![VERSION, VERSION_WITH_FACTORS].contains(&value("version")) {
            let known = format!("this program reads versions {VERSION} and {VERSION_WITH_FACTORS}");
            return Err(wrong("version", format!("is `{}`; {known}", value("version"))));
        }
        let kind = match value("kind") {
            "reversible" => PatchKind::Reversible,
            "forward" => PatchKind::Forward,
            other => return Err(wrong("kind", format!("is `{other}`; it must be `reversible` or `forward`"))),
        };
        for key in ["base_sha256", "result_sha256"] {
            if !is_hash(value(key)) {
                return Err(wrong(key, format!("is `{}`, where 64 lower-case hexadecimal digits belong", value(key))));
            }
        }
        let changes = read_changes(&file, kind)?;
        Ok(Patch { file, kind, changes })
    }

    /// The directions that the patch works in.
    pub fn kind(&self) -> PatchKind {
        self.kind
    }

    /// The hash of the checkpoint that the patch was made from.
    pub fn base_sha256(&self) -> &str {
        &self.file.metadata()["base_sha256"]
    }

    /// The hash of the checkpoint that the patch leads to.
    pub fn result_sha256(&self) -> &str {
        &self.file.metadata()["result_sha256"]
    }

    /// All metadata, the writer's own included.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.file.metadata()
    }

    /// The changed tensors, sorted by name, and how many elements of each change; of a change of low rank all of its elements.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = (&str, usize)> {
        self.changes.iter().map(|(name, change)| {
            let count = match change {
                Change::Elements { positions, .. } => positions.elements(),
                Change::LowRank { left, right, .. } => left.shape[0].saturating_mul(right.shape[0]),
            };
            (name.as_str(), count)
        })
    }

    /// Checks that every change fits a tensor of `checkpoint`.
    fn check_against(&self, checkpoint: &Checkpoint) -> Result<()> {
        for (name, change) in &self.changes {
            let Some(tensor) = checkpoint.tensor(name) else {
                let problem = format!("the checkpoint {} has no such tensor", checkpoint.dir().display());
                return Err(self.wrong(name, problem));
            };
            let (positions, values) = match change {
                Change::Elements { positions, new, .. } => (positions, new),
                Change::LowRank { left, right, corrections } => {
                    if tensor.shape != [left.shape[0], right.shape[0]] || tensor.element.is_none() {
                        let (wanted, found) =
                            ([left.shape[0], right.shape[0]], format!("{} {:?}", tensor.dtype, tensor.shape));
                        let problem =
                            format!("it changes a matrix {wanted:?} of floats, but the checkpoint's is {found}");
                        return Err(self.wrong(name, problem));
                    }
                    match corrections {
                        Some([positions, old]) => (positions, old),
                        None => continue,
                    }
                }
            };
            if tensor.dtype != values.dtype {
                let problem = format!("it changes {} values, but the checkpoint's are {}", values.dtype, tensor.dtype);
                return Err(self.wrong(name, problem));
            }
            let mut least = 0;
            for position in self.positions(positions) {
                if position < least {
                    return Err(self.wrong(name, format!("position {position} comes after {}: not sorted", least - 1)));
                }
                if position >= tensor.elements() as u64 {
                    let problem = format!("position {position} is outside the tensor's {} elements", tensor.elements());
                    return Err(self.wrong(name, problem));
                }
                least = position + 1;
            }
        }
        Ok(())
    }

    /// The tensor's bytes with the values of `side` put in; `None` for a tensor that the patch leaves alone. The
    /// change must have passed [`check_against`](Self::check_against).
    fn replaced(&self, tensor: &TensorInfo, bytes: &[u8], side: Side) -> Result<Option<Vec<u8>>> {
        let Some(change) = self.changes.get(&tensor.name) else { return Ok(None) };
        let put = |mut result: Vec<u8>, positions: &TensorInfo, values: &TensorInfo| {
            let width = values.dtype.bitsize() / 8;
            for (position, value) in self.positions(positions).zip(self.file.bytes(values).chunks_exact(width)) {
                // The position is inside the tensor, hence fits.
                let start = position as usize * width;
                result[start..start + width].copy_from_slice(value);
            }
            Ok(Some(result))
        };
        match (change, side) {
            (Change::Elements { positions, new, .. }, Side::New) => put(bytes.to_vec(), positions, new),
            (Change::Elements { positions, old: Some(old), .. }, Side::Old) => put(bytes.to_vec(), positions, old),
            (Change::Elements { old: None, .. }, Side::Old) => Ok(None),
            (Change::LowRank { left, right, corrections }, side) => {
                let element = tensor.element.ok_or_else(|| self.wrong(&tensor.name, "is not of floats".into()))?;
                let numbers = |of: &TensorInfo| bytemuck::pod_collect_to_vec::<u8, f32>(self.file.bytes(of));
                let shape = [left.shape[0], right.shape[0], left.shape[1]];
                let change = LowRank::new(shape, numbers(left), &numbers(right))?;
                match (side, corrections) {
                    (Side::New, _) => change.add(element, bytes).map(Some),
                    (Side::Old, None) => change.take_back(element, bytes).map(Some),
                    (Side::Old, Some([positions, old])) => put(change.take_back(element, bytes)?, positions, old),
                }
            }
        }
    }

    /// Positions as stored.
    fn positions(&self, positions: &TensorInfo) -> impl Iterator<Item = u64> {
        let bytes = self.file.bytes(positions);
        let width = positions.dtype.bitsize() / 8;
        bytes
            .chunks_exact(width)
            .map(|little| little.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn wrong(&self, tensor: &str, problem: String) -> Error {
        Error::file(self.file.path(), format!("tensor `{tensor}`"), problem)
    }
}

/// Writes to `out` the checkpoint that `patch` makes of `base`.
///
/// # Errors
/// When the patch is damaged or was made from another checkpoint, or `out` exists or cannot be written; `out` does
/// not exist then.
pub fn apply_patch(base: &Checkpoint, patch: &Path, out: &Path) -> Result<()> {
    check_output(base, out)?;
    let patch = Patch::open(patch)?;
    let (from, to) = (("base_sha256", patch.base_sha256()), ("result_sha256", patch.result_sha256()));
    replay(&patch, base, Side::New, from, to, out)
}

/// Writes to `out` the checkpoint from which `patch` made `edited`.
///
/// # Errors
/// When the patch is damaged, holds no old values or led to another checkpoint, or `out` exists or cannot be written;
/// `out` does not exist then.
pub fn revert_patch(edited: &Checkpoint, patch: &Path, out: &Path) -> Result<()> {
    check_output(edited, out)?;
    let patch = Patch::open(patch)?;
    if patch.kind == PatchKind::Forward {
        let problem = "this patch holds new values only and cannot be reverted; a reversible one can";
        return Err(Error::file(patch.file.path(), "metadata `kind`", problem));
    }
    let (from, to) = (("result_sha256", patch.result_sha256()), ("base_sha256", patch.base_sha256()));
    replay(&patch, edited, Side::Old, from, to, out)
}

/// Puts the values of `side` into `checkpoint`, whose hash must be that of `from`; the result's must be that of `to`.
fn replay(
    patch: &Patch,
    checkpoint: &Checkpoint,
    side: Side,
    from: (&str, &str),
    to: (&str, &str),
    out: &Path,
) -> Result<()> {
    let wrong = |key: &str, problem: String| Error::file(patch.file.path(), format!("metadata `{key}`"), problem);
    if checkpoint.sha256() != from.1 {
        let found = format!("{} has the hash {}", checkpoint.dir().display(), checkpoint.sha256());
        return Err(wrong(
            from.0,
            format!("the patch belongs to the checkpoint with the hash {}, but {found}", from.1),
        ));
    }
    patch.check_against(checkpoint)?;
    let staged = stage_edited(checkpoint, out, &mut |tensor, bytes| patch.replaced(tensor, bytes, side))?;
    if staged.sha256() != to.1 {
        let problem = format!("the patch is damaged: it promises the hash {}, but leads to {}", to.1, staged.sha256());
        return Err(wrong(to.0, problem));
    }
    staged.commit()
}

/// Whether `text` is a hash as [`Checkpoint::sha256`] writes it.
fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
