//! Writing a safetensors file that is too large for memory: the tensors are declared first and then filled, in any
//! order and in pieces (backward reaches the last layer first).

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};

use super::atomic::AtomicFile;
use super::header::{self, Declaration, TensorInfo};
use crate::{Error, Result};

/// A safetensors file under construction. The same declarations, metadata and numbers give the same bytes, whatever
/// the order of writing.
///
/// ```
/// use efface::checkpoint::{AtomicFile, Declaration, Dtype, TensorFile, TensorFileWriter};
/// # fn main() -> efface::Result<()> {
/// # let target = std::env::temp_dir().join(format!("efface-doc-{}.safetensors", std::process::id()));
/// let declared = [Declaration { name: "w".into(), dtype: Dtype::F32, shape: vec![2, 2] }];
/// let metadata = [("kind".to_string(), "fisher".to_string())].into();
/// let mut writer = TensorFileWriter::new(AtomicFile::create(&target)?, &declared, &metadata)?;
/// writer.append_f32("w", &[1.0, 2.0, 3.0])?;
/// writer.append_f32("w", &[4.0])?;
/// writer.commit()?;
/// assert_eq!(TensorFile::open(&target)?.metadata()["kind"], "fisher");
/// # std::fs::remove_file(&target).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TensorFileWriter {
    file: AtomicFile,
    tensors: BTreeMap<String, Slot>,
}

/// A tensor and how much of it has been written.
#[derive(Debug)]
struct Slot {
    info: TensorInfo,
    written: usize,
}

impl TensorFileWriter {
    /// Writes the header of the tensors `declared` and of `metadata` to the empty file `file`.
    ///
    /// # Errors
    /// When a tensor is declared twice or its size overflows, or the file cannot be written.
    pub fn new(mut file: AtomicFile, declared: &[Declaration], metadata: &BTreeMap<String, String>) -> Result<Self> {
        let (first, infos) = header::build(file.target(), declared, metadata)?;
        file.write_all(&first).map_err(|error| Error::writing(file.target(), error))?;
        let tensors = infos.into_iter().map(|info| (info.name.clone(), Slot { info, written: 0 })).collect();
        Ok(TensorFileWriter { file, tensors })
    }

    /// Writes the next bytes of the tensor `name`: all of it, or piece after piece.
    ///
    /// # Errors
    /// When no such tensor was declared, more arrives than it takes, or the file cannot be written.
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let target = self.file.target().to_path_buf();
        let wrong = |problem: String| Error::argument(format!("{}: tensor `{name}`: {problem}", target.display()));
        let slot = self.tensors.get_mut(name).ok_or_else(|| wrong("it was not declared".into()))?;
        let size = slot.info.byte_len();
        if bytes.len() > size - slot.written {
            return Err(wrong(format!("{} bytes after {} are more than its {size}", bytes.len(), slot.written)));
        }
        let failed = |error| Error::writing(&target, error);
        let position = (slot.info.range.start + slot.written) as u64;
        self.file.seek(SeekFrom::Start(position)).map_err(failed)?;
        self.file.write_all(bytes).map_err(failed)?;
        slot.written += bytes.len();
        Ok(())
    }

    /// As [`append`](Self::append), for numbers of an F32 tensor.
    ///
    /// # Errors
    /// As [`append`](Self::append), and when the tensor was declared with another element type.
    pub fn append_f32(&mut self, name: &str, numbers: &[f32]) -> Result<()> {
        match self.tensors.get(name) {
            Some(slot) if slot.info.dtype != super::Dtype::F32 => {
                let problem = format!("it was declared as {}, not F32", slot.info.dtype);
                Err(Error::argument(format!("{}: tensor `{name}`: {problem}", self.file.target().display())))
            }
            _ => self.append(name, bytemuck::cast_slice(numbers)),
        }
    }

    /// Checks that every tensor is complete and gives back the file, which has everything but its name.
    ///
    /// # Errors
    /// When a tensor is incomplete.
    pub fn finish(self) -> Result<AtomicFile> {
        for (name, slot) in &self.tensors {
            let size = slot.info.byte_len();
            if slot.written < size {
                let problem = format!("only {} of its {size} bytes were written", slot.written);
                return Err(Error::argument(format!("{}: tensor `{name}`: {problem}", self.file.target().display())));
            }
        }
        Ok(self.file)
    }

    /// [`finish`](Self::finish)es the file, flushes it to disk and gives it its name.
    ///
    /// # Errors
    /// When a tensor is incomplete or the disk fails; no file remains then.
    pub fn commit(self) -> Result<()> {
        self.finish()?.commit()
    }
}
