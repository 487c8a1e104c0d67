//! One safetensors file, mapped into memory: a checkpoint's shard, a file of importances, a patch.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::finite;
use super::header::{self, Header, TensorInfo};
use crate::{Error, Result};

/// A safetensors file whose header has been checked against its contents.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    mapping: Arc<Mmap>,
    header: Header,
    /// Positions in `header.tensors`, sorted by the tensors' names.
    by_name: Vec<usize>,
}

impl TensorFile {
    /// Maps the file `path` and checks its header.
    ///
    /// # Errors
    /// When the file cannot be read or is no valid safetensors file: the tensor at fault and the fault are named.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, 0)
    }

    /// As [`open`](Self::open), for the file with index `file` among a checkpoint's.
    pub(super) fn open_as(path: &Path, file: usize) -> Result<Self> {
        let mapping = Arc::new(map(path)?);
        let mut header = header::parse(path, &mapping)?;
        for tensor in &mut header.tensors {
            tensor.file = file;
        }
        let mut by_name: Vec<usize> = (0..header.tensors.len()).collect();
        by_name.sort_by(|&a, &b| header.tensors[a].name.cmp(&header.tensors[b].name));
        Ok(TensorFile { path: path.to_path_buf(), mapping, header, by_name })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size in bytes, header included.
    pub fn byte_len(&self) -> usize {
        self.mapping.len()
    }

    /// The text of the header's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// The tensors in the order of their bytes in the file.
    pub fn tensors_in_file_order(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensors, sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.by_name.iter().map(|&index| &self.header.tensors[index])
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let found = self.by_name.binary_search_by(|&index| self.header.tensors[index].name.as_str().cmp(name));
        found.ok().map(|position| &self.header.tensors[self.by_name[position]])
    }

    /// The stored bytes of one of this file's tensors, little-endian, aligned to nothing in particular.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.mapping[tensor.range.clone()]
    }

    /// The stored bytes of one of this file's tensors, as a view that keeps the mapping alive.
    pub fn mapped(&self, tensor: &TensorInfo) -> Mapped {
        Mapped { mapping: Arc::clone(&self.mapping), range: tensor.range.clone() }
    }

    /// Asks the system to read a tensor's bytes ahead. Only a hint: where the system takes none, nothing happens.
    pub fn prefetch(&self, tensor: &TensorInfo) {
        #[cfg(unix)]
        let _ = self.mapping.advise_range(memmap2::Advice::WillNeed, tensor.range.start, tensor.range.len());
        #[cfg(not(unix))]
        let _ = tensor;
    }

    /// Lets a tensor's pages go: they count as this process's memory until then. They stay in the system's file cache as long as
    /// it has room, and come back when they are read. Only a hint, as above.
    pub fn release(&self, tensor: &TensorInfo) {
        #[cfg(unix)]
        // SAFETY: what this advice may lose is what was written to a mapping, and this one is never written; pages that are
        // read afterwards, or meanwhile by others, are read from the file again.
        let _ = unsafe {
            let (start, length) = (tensor.range.start, tensor.range.len());
            self.mapping.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, length)
        };
        #[cfg(not(unix))]
        let _ = tensor;
    }

    /// The flat index of the first NaN or infinity in a tensor; `None` also for element types that have none.
    pub fn first_non_finite(&self, tensor: &TensorInfo) -> Option<usize> {
        finite::first_non_finite(tensor.element?, self.bytes(tensor))
    }

    /// The length field and the header, exactly as stored.
    pub(super) fn header_bytes(&self) -> &[u8] {
        &self.mapping[..self.header.data_start]
    }

    /// The whole file.
    pub(super) fn contents(&self) -> &[u8] {
        &self.mapping
    }
}

/// Bytes of a mapped file. Cloning shares the mapping, which lives as long as any of its views.
#[derive(Clone)]
pub struct Mapped {
    mapping: Arc<Mmap>,
    range: Range<usize>,
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.mapping[self.range.clone()]
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "Mapped({} bytes)", self.range.len())
    }
}

/// Refuses what is not a regular file (or a link to one), before opening it: opening a pipe would wait for a writer.
pub(super) fn check_regular(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(metadata) if metadata.is_dir() => Err(Error::file(path, "", "is a directory, where a file should be")),
        Ok(_) => Err(Error::file(path, "", "is a device, socket or pipe, where a file should be")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let problem = if fs::symlink_metadata(path).is_ok() {
                "is a link to a file that does not exist"
            } else {
                "there is no such file"
            };
            Err(Error::file(path, "", problem))
        }
        Err(error) => Err(Error::reading(path, error)),
    }
}

/// Maps a regular file for reading.
fn map(path: &Path) -> Result<Mmap> {
    check_regular(path)?;
    let failed = |error| Error::reading(path, error);
    let file = File::open(path).map_err(failed)?;
    // An empty file cannot be mapped everywhere.
    if file.metadata().map_err(failed)?.len() == 0 {
        return Err(Error::file(path, "", "the file is empty"));
    }
    // SAFETY: the mapping is read-only and its bytes are only ever read as numbers, for which every bit pattern is
    // valid. That no other process changes or truncates the file meanwhile is the condition under which checkpoints
    // are opened; `mod.rs` states it.
    unsafe { Mmap::map(&file) }.map_err(failed)
}
