//! A directory that appears under its name only when it is complete and on disk.

use std::fs;
use std::path::{Path, PathBuf};

use super::temporary::{create_beside, refuse_existing, split, sync_directory};
use crate::{Error, Result};

/// A directory under construction beside its target; removed when dropped without [`commit`](Self::commit).
#[derive(Debug)]
pub(super) struct StagedDirectory {
    target: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl StagedDirectory {
    /// Begins a directory for the name `target`, which must not exist.
    pub(super) fn create(target: &Path) -> Result<Self> {
        split(target)?;
        refuse_existing(target)?;
        let (path, ()) = create_beside(target, |path| fs::create_dir(path))?;
        Ok(StagedDirectory { target: target.to_path_buf(), path, committed: false })
    }

    /// Where to put the files until the commit.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the directory its name. Its files and subdirectories must have been flushed to disk.
    pub(super) fn commit(mut self) -> Result<()> {
        let failed = |error| Error::writing(&self.target, error);
        let (parent, _) = split(&self.target)?;
        sync_directory(&self.path).map_err(failed)?;
        refuse_existing(&self.target)?;
        fs::rename(&self.path, &self.target).map_err(failed)?;
        self.committed = true;
        sync_directory(&parent).map_err(|error| Error::writing(&self.target, error))
    }
}

impl Drop for StagedDirectory {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing more can be done about a temporary directory that cannot be removed; the target is untouched.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
