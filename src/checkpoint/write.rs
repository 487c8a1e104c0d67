//! Writing an edited checkpoint: new bytes for some tensors, everything else as it was.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::copy::{check_contents, copy_contents, copy_permissions};
use super::hash::{self, FileHash};
use super::header::TensorInfo;
use super::read::{CONFIG, Checkpoint, file_name};
use super::staging::StagedDirectory;
use super::temporary::{refuse_existing, split};
use super::tensor_file::TensorFile;
use crate::{Error, Result};

/// Bytes hashed and written at a time: few enough to stay in the cache between the two.
const CHUNK: usize = 1 << 20;

/// The edit: given a tensor and its stored bytes, its new bytes (as many), or `None` to leave it as it is.
pub type Edit<'edit> = dyn FnMut(&TensorInfo, &[u8]) -> Result<Option<Vec<u8>>> + 'edit;

/// A complete edited checkpoint on disk that does not bear its name yet. Dropped without
/// [`commit`](StagedCheckpoint::commit), it is removed.
#[derive(Debug)]
pub struct StagedCheckpoint {
    directory: StagedDirectory,
    sha256: String,
}

impl StagedCheckpoint {
    /// The new checkpoint's hash, as [`Checkpoint::sha256`] will give it.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Where the checkpoint is until the commit, for a look at what was written.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Gives the checkpoint its name, in one step.
    ///
    /// # Errors
    /// When the name has been taken meanwhile or the disk fails.
    pub fn commit(self) -> Result<()> {
        self.directory.commit()
    }
}

/// Writes the checkpoint that `edit` makes of `base` to the new directory `out` and returns its hash. `edit` is asked
/// for each tensor, in the order of the bytes in the files. File names, headers, element types and all other files
/// are those of `base`.
///
/// # Errors
/// When `out` exists, lies in `base`'s directory or cannot be written, or when `edit` fails or returns another number
/// of bytes; `out` does not exist then.
pub fn write_edited(base: &Checkpoint, out: &Path, edit: &mut Edit) -> Result<String> {
    let staged = stage_edited(base, out, edit)?;
    let sha256 = staged.sha256().to_string();
    staged.commit()?;
    Ok(sha256)
}

/// The first half of [`write_edited`]: all but the name is done, so that what depends on the result (a patch holds
/// its hash) can be written before the result appears.
///
/// # Errors
/// As [`write_edited`].
pub fn stage_edited(base: &Checkpoint, out: &Path, edit: &mut Edit) -> Result<StagedCheckpoint> {
    check_output(base, out)?;
    let directory = StagedDirectory::create(out)?;
    copy_permissions(base.dir(), directory.path())?;
    let own: BTreeSet<OsString> = base.files().iter().map(file_name).chain([CONFIG.into()]).map(Into::into).collect();
    copy_contents(base.dir(), directory.path(), &own)?;

    let mut hashes = Vec::with_capacity(own.len());
    let mut config = HashedFile::create(directory.path().join(CONFIG))?;
    config.write(base.config_text())?;
    hashes.push((CONFIG.to_string(), config.finish(&base.dir().join(CONFIG))?));
    for file in base.files() {
        let name = file_name(file);
        let target = directory.path().join(&name);
        hashes.push((name, write_weights(file, target, edit)?));
    }
    Ok(StagedCheckpoint { directory, sha256: hash::combined(hashes) })
}

/// Whether an edited `base` could be written to `out`: for refusing it before hours of work.
///
/// # Errors
/// When `out` exists, its parent does not or lies in `base`'s directory, or `base`'s directory holds something that
/// cannot be copied.
pub fn check_output(base: &Checkpoint, out: &Path) -> Result<()> {
    let (parent, _) = split(out)?;
    refuse_existing(out)?;
    let resolved = |path: &Path| fs::canonicalize(path).map_err(|error| Error::reading(path, error));
    if resolved(&parent)?.starts_with(resolved(base.dir())?) {
        let problem = format!("lies inside the checkpoint {} that it is made from", base.dir().display());
        return Err(Error::argument(format!("{} {problem}: choose a place outside", out.display())));
    }
    check_contents(base.dir())
}

/// Writes one weight file and returns its hash.
fn write_weights(file: &TensorFile, target: PathBuf, edit: &mut Edit) -> Result<FileHash> {
    let mut output = HashedFile::create(target)?;
    output.write(file.header_bytes())?;
    for tensor in file.tensors_in_file_order() {
        let old = file.bytes(tensor);
        match edit(tensor, old)? {
            None => output.write(old)?,
            Some(new) if new.len() == old.len() => output.write(&new)?,
            Some(new) => {
                let problem = format!("an edit must keep its {} bytes, but gave {}", old.len(), new.len());
                return Err(Error::argument(format!("tensor `{}`: {problem}", tensor.name)));
            }
        }
    }
    output.finish(file.path())
}

/// A file that is hashed while it is written.
struct HashedFile {
    path: PathBuf,
    file: File,
    hasher: Sha256,
}

impl HashedFile {
    fn create(path: PathBuf) -> Result<Self> {
        let file = File::create_new(&path).map_err(|error| Error::writing(&path, error))?;
        Ok(HashedFile { path, file, hasher: Sha256::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            self.hasher.update(chunk);
            self.file.write_all(chunk).map_err(|error| Error::writing(&self.path, error))?;
        }
        Ok(())
    }

    /// Flushes the file to disk and gives it the permissions of `original`.
    fn finish(self, original: &Path) -> Result<FileHash> {
        self.file.sync_all().map_err(|error| Error::writing(&self.path, error))?;
        copy_permissions(original, &self.path)?;
        Ok(self.hasher.finalize().into())
    }
}
