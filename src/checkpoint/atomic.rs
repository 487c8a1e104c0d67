//! A file that appears under its name only when it is complete and on disk. All single files that efface writes go
//! through here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::temporary::{create_beside, refuse_existing, split, sync_directory};
use crate::{Error, Result};

/// A file under construction beside its target. [`commit`](AtomicFile::commit) flushes it to disk and gives it the
/// target's name in one step; dropped without, it is removed and the target is as it was.
///
/// ```
/// use std::io::Write;
/// # fn main() -> efface::Result<()> {
/// # let directory = std::env::temp_dir().join(format!("efface-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory).unwrap();
/// let target = directory.join("report.json");
/// let mut file = efface::checkpoint::AtomicFile::create(&target)?;
/// file.write_all(b"{}").map_err(|error| efface::Error::writing(&target, error))?;
/// assert!(!target.exists());
/// file.commit()?;
/// assert!(target.exists());
/// # std::fs::remove_dir_all(&directory).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    may_replace: bool,
    committed: bool,
}

impl AtomicFile {
    /// Begins a new file.
    ///
    /// # Errors
    /// When `target` exists, its directory does not, or it cannot be written to.
    pub fn create(target: &Path) -> Result<Self> {
        Self::check(target)?;
        Self::begin(target, OpenOptions::new().write(true), false)
    }

    /// Begins a new file that only its owner may read and write (mode 0600, from the first byte on).
    ///
    /// # Errors
    /// As [`create`](AtomicFile::create).
    pub fn create_secret(target: &Path) -> Result<Self> {
        Self::check(target)?;
        Self::begin(target, &mut secret_options(), false)
    }

    /// Begins a file that takes the place of `target` if that exists. Until the commit the old one stays.
    ///
    /// # Errors
    /// When the directory does not exist or cannot be written to.
    pub fn replace(target: &Path) -> Result<Self> {
        if target.is_dir() {
            return Err(Error::argument(format!("{} is a directory, where a file is to be written", target.display())));
        }
        Self::begin(target, OpenOptions::new().write(true), true)
    }

    /// Whether [`create`](AtomicFile::create) would accept `target`: for refusing it before hours of work.
    ///
    /// # Errors
    /// When `target` exists or its directory does not.
    pub fn check(target: &Path) -> Result<()> {
        split(target)?;
        refuse_existing(target)
    }

    fn begin(target: &Path, options: &mut OpenOptions, may_replace: bool) -> Result<Self> {
        let options = options.create_new(true);
        let (temporary, file) = create_beside(target, |path| options.open(path))?;
        Ok(AtomicFile { target: target.to_path_buf(), temporary, file, may_replace, committed: false })
    }

    /// The name that the file will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Flushes the file to disk and gives it its name.
    ///
    /// # Errors
    /// When the disk is full or fails, or when a target that must not be replaced has appeared meanwhile.
    pub fn commit(mut self) -> Result<()> {
        let failed = |error| Error::writing(&self.target, error);
        let (parent, _) = split(&self.target)?;
        self.file.sync_all().map_err(failed)?;
        if !self.may_replace {
            refuse_existing(&self.target)?;
        }
        fs::rename(&self.temporary, &self.target).map_err(failed)?;
        self.committed = true;
        sync_directory(&parent).map_err(|error| Error::writing(&self.target, error))
    }
}

/// Options for a file that no one but its owner may open.
pub(super) fn secret_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing more can be done about a temporary file that cannot be removed; the target is untouched.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
