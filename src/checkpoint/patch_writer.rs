//! Writing a patch (the format: [`patch`](super::patch)) while the edited checkpoint is being written.
//!
//! Changes go to a scratch file as they come, so that memory does not grow with them; the patch itself is laid out
//! when all are known.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::atomic::{AtomicFile, secret_options};
use super::header::{Declaration, TensorInfo};
use super::low_rank::LowRank;
use super::patch::{FORMAT, LEFT, NEW, OLD, POSITIONS, PatchKind, RESERVED_KEYS, RIGHT, VERSION, VERSION_WITH_FACTORS};
use super::read::Checkpoint;
use super::temporary::create_beside;
use super::tensor_writer::TensorFileWriter;
use crate::{Error, Result};

/// Bytes copied at a time from the scratch file to the patch.
const CHUNK: usize = 1 << 20;

/// A patch under construction. Dropped without [`finish`](PatchWriter::finish), nothing of it remains.
///
/// The result should appear only when its patch is there, so the two are written like this:
///
/// ```no_run
/// # use efface::checkpoint::*;
/// # fn new_bytes(_: &TensorInfo, old: &[u8]) -> Vec<u8> { old.to_vec() }
/// # fn main() -> efface::Result<()> {
/// let base = Checkpoint::open("model".as_ref())?;
/// let mut patch = PatchWriter::create("model.patch".as_ref(), PatchKind::Reversible, &base, Default::default())?;
/// let staged = stage_edited(&base, "edited".as_ref(), &mut |tensor, old| {
///     let new = new_bytes(tensor, old);
///     patch.record(tensor, old, &new)?;
///     Ok(Some(new))
/// })?;
/// patch.finish(staged.sha256())?.commit()?;
/// staged.commit()
/// # }
/// ```
#[derive(Debug)]
pub struct PatchWriter {
    target: PathBuf,
    kind: PatchKind,
    metadata: BTreeMap<String, String>,
    scratch: Scratch,
    sections: Vec<Section>,
    changed: u64,
}

/// A vector of the patch and its place in the scratch file.
#[derive(Debug)]
struct Section {
    declaration: Declaration,
    start: u64,
    byte_len: u64,
}

impl PatchWriter {
    /// Begins the patch `target` of changes to `base`; `metadata` is the caller's own, to be kept in the patch.
    ///
    /// # Errors
    /// When `target` exists or cannot be written, or `metadata` uses a key of the format.
    pub fn create(
        target: &Path,
        kind: PatchKind,
        base: &Checkpoint,
        mut metadata: BTreeMap<String, String>,
    ) -> Result<Self> {
        AtomicFile::check(target)?;
        if let Some(key) = RESERVED_KEYS.into_iter().find(|&key| metadata.contains_key(key)) {
            return Err(Error::argument(format!("the metadata key `{key}` is the patch format's own")));
        }
        let own = [("format", FORMAT), ("version", VERSION), ("kind", kind.name()), ("base_sha256", base.sha256())];
        metadata.extend(own.map(|(key, value)| (key.to_string(), value.to_string())));
        let scratch = Scratch::create(target)?;
        Ok(PatchWriter { target: target.to_path_buf(), kind, metadata, scratch, sections: Vec::new(), changed: 0 })
    }

    /// Records the elements of `tensor` whose bits differ between `old` and `new`, its bytes before and after, and
    /// returns their number.
    ///
    /// # Errors
    /// When the lengths do not fit the tensor, it was recorded before, or the disk fails.
    pub fn record(&mut self, tensor: &TensorInfo, old: &[u8], new: &[u8]) -> Result<u64> {
        let wrong = |problem: String| Error::argument(format!("patch of tensor `{}`: {problem}", tensor.name));
        if old.len() != tensor.byte_len() || new.len() != old.len() {
            let lengths = format!("{} bytes before and {} after the edit", old.len(), new.len());
            return Err(wrong(format!("{lengths}, but it has {}", tensor.byte_len())));
        }
        let positions_name = format!("{POSITIONS}{}", tensor.name);
        let left_name = format!("{LEFT}{}", tensor.name);
        let names = self.sections.iter().map(|section| &section.declaration.name);
        if names.into_iter().any(|name| *name == positions_name || *name == left_name) {
            return Err(wrong("it was recorded before".into()));
        }
        let width = tensor.dtype.bitsize() / 8;
        if width == 0 || !tensor.dtype.bitsize().is_multiple_of(8) {
            return Err(wrong(format!("{} values cannot be changed one by one", tensor.dtype)));
        }
        let differing = || {
            let pairs = old.chunks_exact(width).zip(new.chunks_exact(width));
            pairs.enumerate().filter(|(_, (old, new))| old != new)
        };
        let count = differing().count();
        if count == 0 {
            return Ok(0);
        }
        if old.len() / width <= 1 << 32 {
            // All positions are below 2³².
            let positions = differing().map(|(position, _)| (position as u32).to_le_bytes());
            self.section(positions_name, Dtype::U32, vec![count], positions)?;
        } else {
            let positions = differing().map(|(position, _)| (position as u64).to_le_bytes());
            self.section(positions_name, Dtype::U64, vec![count], positions)?;
        }
        let new_values = differing().map(|(_, (_, new))| new);
        self.section(format!("{NEW}{}", tensor.name), tensor.dtype, vec![count], new_values)?;
        if self.kind == PatchKind::Reversible {
            let old_values = differing().map(|(_, (old, _))| old);
            self.section(format!("{OLD}{}", tensor.name), tensor.dtype, vec![count], old_values)?;
        }
        self.changed += count as u64;
        Ok(count as u64)
    }

    /// As [`record`](Self::record), of a change of low rank: where that makes the new bytes of the old ones, its factors are
    /// smaller than the elements, and the patch is reversible, it is recorded by its factors and by the elements that rounding
    /// would not bring back; otherwise element by element.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub fn record_low_rank(&mut self, tensor: &TensorInfo, old: &[u8], new: &[u8], change: &LowRank) -> Result<u64> {
        let [rows, columns, rank] = change.shape();
        let Some(element) =
            tensor.element.filter(|_| tensor.shape == [rows, columns] && old.len() == tensor.byte_len())
        else {
            return self.record(tensor, old, new);
        };
        let names = [LEFT, POSITIONS].map(|prefix| format!("{prefix}{}", tensor.name));
        let recorded = self.sections.iter().any(|section| names.contains(&section.declaration.name));
        if recorded || self.kind == PatchKind::Forward || change.add(element, old)? != new {
            return self.record(tensor, old, new);
        }
        let width = element.size();
        let back = change.take_back(element, new)?;
        let differing = |a: &[u8], b: &[u8]| -> Vec<u64> {
            let pairs = a.chunks_exact(width).zip(b.chunks_exact(width)).enumerate();
            pairs.filter(|(_, (a, b))| a != b).map(|(position, _)| position as u64).collect()
        };
        let (corrections, changed) = (differing(&back, old), differing(old, new).len());
        let place = if old.len() / width <= 1 << 32 { 4 } else { 8 };
        let by_factors = 4 * rank * (rows + columns) + corrections.len() * (place + width);
        if by_factors >= changed * (place + 2 * width) {
            return self.record(tensor, old, new);
        }
        let (left, right) = change.factors();
        for (prefix, numbers, first) in [(LEFT, left, rows), (RIGHT, &right[..], columns)] {
            let values = numbers.iter().map(|number| number.to_le_bytes());
            self.section(format!("{prefix}{}", tensor.name), Dtype::F32, vec![first, rank], values)?;
        }
        if !corrections.is_empty() {
            let (dtype, count) =
                if place == 4 { (Dtype::U32, corrections.len()) } else { (Dtype::U64, corrections.len()) };
            let positions = corrections.iter().map(|position| position.to_le_bytes()[..place].to_vec());
            self.section(format!("{POSITIONS}{}", tensor.name), dtype, vec![count], positions)?;
            let values = corrections.iter().map(|position| &old[*position as usize * width..][..width]);
            self.section(format!("{OLD}{}", tensor.name), tensor.dtype, vec![count], values)?;
        }
        self.metadata.insert("version".into(), VERSION_WITH_FACTORS.into());
        self.changed += changed as u64;
        Ok(changed as u64)
    }

    /// How many elements have been recorded so far, over all tensors.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// Lays out the patch; it appears when the returned file is committed. `result_sha256` is the hash of the edited
    /// checkpoint.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn finish(mut self, result_sha256: &str) -> Result<AtomicFile> {
        self.metadata.insert("result_sha256".into(), result_sha256.into());
        let file = match self.kind {
            PatchKind::Reversible => AtomicFile::create_secret(&self.target)?,
            PatchKind::Forward => AtomicFile::create(&self.target)?,
        };
        let declared: Vec<Declaration> = self.sections.iter().map(|section| section.declaration.clone()).collect();
        let mut writer = TensorFileWriter::new(file, &declared, &self.metadata)?;
        let mut chunk = vec![0; CHUNK];
        for section in &self.sections {
            let failed = |error| Error::writing(&self.target, error);
            let mut remaining = section.byte_len;
            self.scratch.file.seek(SeekFrom::Start(section.start)).map_err(failed)?;
            while remaining > 0 {
                // At most `CHUNK`, hence in range.
                let part = &mut chunk[..remaining.min(CHUNK as u64) as usize];
                self.scratch.file.read_exact(part).map_err(failed)?;
                writer.append(&section.declaration.name, part)?;
                remaining -= part.len() as u64;
            }
        }
        writer.finish()
    }

    /// Writes the values of one tensor of the patch to the scratch file.
    fn section<V: AsRef<[u8]>>(
        &mut self,
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
        values: impl Iterator<Item = V>,
    ) -> Result<()> {
        let written = self.scratch.append(values).map_err(|error| Error::writing(&self.target, error))?;
        let declaration = Declaration { name, dtype, shape };
        self.sections.push(Section { declaration, start: written.0, byte_len: written.1 });
        Ok(())
    }
}

/// A nameless file beside the patch that only this process can read: it holds old values too.
#[derive(Debug)]
struct Scratch {
    file: File,
    /// The name that remains to be removed, where open files cannot lose theirs.
    path: Option<PathBuf>,
    end: u64,
}

impl Scratch {
    fn create(target: &Path) -> Result<Self> {
        let mut options = secret_options();
        options.read(true).create_new(true);
        let (path, file) = create_beside(target, |path| options.open(path))?;
        let removed = cfg!(unix) && fs::remove_file(&path).is_ok();
        Ok(Scratch { file, path: (!removed).then_some(path), end: 0 })
    }

    /// Writes `values` at the end; returns where and how many bytes.
    fn append<V: AsRef<[u8]>>(&mut self, values: impl Iterator<Item = V>) -> io::Result<(u64, u64)> {
        let start = self.file.seek(SeekFrom::Start(self.end))?;
        let mut buffered = BufWriter::with_capacity(CHUNK, &self.file);
        for value in values {
            buffered.write_all(value.as_ref())?;
            self.end += value.as_ref().len() as u64;
        }
        buffered.flush()?;
        Ok((start, self.end - start))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}
