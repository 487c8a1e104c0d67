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
//! A tied weight that is stored twice is two tensors here. The header's metadata holds `format` = `efface-patch`,
//! `version` = `1`, `kind` = `reversible` or `forward`, `base_sha256` and `result_sha256` (the hashes of the two
//! checkpoints: [`Checkpoint::sha256`]), and whatever else the writer was given.
//!
//! The hashes decide: a patch is applied only to the checkpoint that it was made from, reverted only on the one that
//! it led to, and the result is kept only if it has the hash that the patch promises.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;

use super::header::TensorInfo;
use super::read::Checkpoint;
use super::tensor_file::TensorFile;
use super::write::{check_output, stage_edited};
use crate::{Error, Result};

/// The value of the metadata key `format`.
pub(super) const FORMAT: &str = "efface-patch";
/// The value of the metadata key `version`.
pub(super) const VERSION: &str = "1";
/// Metadata keys that the format itself uses.
pub(super) const RESERVED_KEYS: [&str; 5] = ["format", "version", "kind", "base_sha256", "result_sha256"];
/// What the vectors' names begin with.
pub(super) const POSITIONS: &str = "positions/";
pub(super) const NEW: &str = "new/";
pub(super) const OLD: &str = "old/";

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

/// The vectors of one changed tensor.
#[derive(Debug)]
struct Change {
    positions: TensorInfo,
    new: TensorInfo,
    old: Option<TensorInfo>,
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
        if value("version") != VERSION {
            return Err(wrong("version", format!("is `{}`; this program reads version {VERSION}", value("version"))));
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

    /// The changed tensors, sorted by name, and how many elements of each change.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = (&str, usize)> {
        self.changes.iter().map(|(name, change)| (name.as_str(), change.positions.elements()))
    }

    /// Checks that every change fits a tensor of `checkpoint`.
    fn check_against(&self, checkpoint: &Checkpoint) -> Result<()> {
        for (name, change) in &self.changes {
            let Some(tensor) = checkpoint.tensor(name) else {
                let problem = format!("the checkpoint {} has no such tensor", checkpoint.dir().display());
                return Err(self.wrong(name, problem));
            };
            if tensor.dtype != change.new.dtype {
                let problem =
                    format!("it changes {} values, but the checkpoint's are {}", change.new.dtype, tensor.dtype);
                return Err(self.wrong(name, problem));
            }
            let mut least = 0;
            for position in self.positions(change) {
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
    fn replaced(&self, tensor: &TensorInfo, bytes: &[u8], side: Side) -> Option<Vec<u8>> {
        let change = self.changes.get(&tensor.name)?;
        let values = match side {
            Side::New => &change.new,
            Side::Old => change.old.as_ref()?,
        };
        let width = values.dtype.bitsize() / 8;
        let mut result = bytes.to_vec();
        for (position, value) in self.positions(change).zip(self.file.bytes(values).chunks_exact(width)) {
            // The position is inside the tensor, hence fits.
            let start = position as usize * width;
            result[start..start + width].copy_from_slice(value);
        }
        Some(result)
    }

    /// The positions of a change, as stored.
    fn positions(&self, change: &Change) -> impl Iterator<Item = u64> {
        let bytes = self.file.bytes(&change.positions);
        let width = change.positions.dtype.bitsize() / 8;
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
    let staged = stage_edited(checkpoint, out, &mut |tensor, bytes| Ok(patch.replaced(tensor, bytes, side)))?;
    if staged.sha256() != to.1 {
        let problem = format!("the patch is damaged: it promises the hash {}, but leads to {}", to.1, staged.sha256());
        return Err(wrong(to.0, problem));
    }
    staged.commit()
}

/// Collects the vectors of each changed tensor and checks that they belong together.
fn read_changes(file: &TensorFile, kind: PatchKind) -> Result<BTreeMap<String, Change>> {
    let wrong = |vector: &str, problem: String| Error::file(file.path(), format!("tensor `{vector}`"), problem);
    let mut changes = BTreeMap::new();
    for vector in file.tensors() {
        let named = [POSITIONS, NEW, OLD].into_iter().find_map(|prefix| vector.name.strip_prefix(prefix));
        let Some(name) = named else {
            let problem = "is no part of a patch: names begin with `positions/`, `new/` or `old/`";
            return Err(wrong(&vector.name, problem.into()));
        };
        if vector.shape.len() != 1 {
            return Err(wrong(&vector.name, format!("has the shape {:?}, where a vector belongs", vector.shape)));
        }
        if !vector.dtype.bitsize().is_multiple_of(8) {
            return Err(wrong(&vector.name, format!("{} values cannot be changed one by one", vector.dtype)));
        }
        let part = |prefix: &str| {
            let partner = format!("{prefix}{name}");
            file.tensor(&partner).ok_or_else(|| wrong(&vector.name, format!("its partner `{partner}` is missing")))
        };
        let (positions, new) = (part(POSITIONS)?, part(NEW)?);
        let old = match kind {
            PatchKind::Reversible => Some(part(OLD)?),
            PatchKind::Forward if vector.name.starts_with(OLD) => {
                return Err(wrong(&vector.name, "a forward patch holds no old values".into()));
            }
            PatchKind::Forward => None,
        };
        if !matches!(positions.dtype, Dtype::U32 | Dtype::U64) {
            return Err(wrong(&positions.name, format!("positions are U32 or U64, not {}", positions.dtype)));
        }
        for values in [Some(new), old].into_iter().flatten() {
            if values.shape != positions.shape || values.dtype != new.dtype {
                let expected = format!("{} {:?} expected", new.dtype, positions.shape);
                return Err(wrong(&values.name, format!("is {} {:?}: {expected}", values.dtype, values.shape)));
            }
        }
        let change = Change { positions: positions.clone(), new: new.clone(), old: old.cloned() };
        changes.insert(name.to_string(), change);
    }
    Ok(changes)
}

/// Whether `text` is a hash as [`Checkpoint::sha256`] writes it.
fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
