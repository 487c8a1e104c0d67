//! Copying what a checkpoint directory holds besides its weights, byte for byte and with its permissions.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::read::entries;
use super::temporary::{is_temporary, sync_directory};
use crate::{Error, Result};

/// What a directory's entry is.
enum Kind {
    File,
    Directory,
}

/// Copies the contents of `from` into the directory `to`, except the entries of `from` that `skipped` names and
/// efface's own temporary files. Links to files become files.
pub(super) fn copy_contents(from: &Path, to: &Path, skipped: &BTreeSet<OsString>) -> Result<()> {
    for source in entries(from)? {
        let Some(name) = source.file_name() else { continue };
        if skipped.contains(name) || is_temporary(name) {
            continue;
        }
        let target = to.join(name);
        match kind_of(&source)? {
            Kind::File => copy_file(&source, &target)?,
            Kind::Directory => {
                fs::create_dir(&target).map_err(|error| Error::writing(&target, error))?;
                copy_contents(&source, &target, &BTreeSet::new())?;
                copy_permissions(&source, &target)?;
                sync_directory(&target).map_err(|error| Error::writing(&target, error))?;
            }
        }
    }
    Ok(())
}

/// Whether the contents of `from` can be copied: names the entry that cannot.
pub(super) fn check_contents(from: &Path) -> Result<()> {
    for source in entries(from)? {
        if let Kind::Directory = kind_of(&source)? {
            check_contents(&source)?;
        }
    }
    Ok(())
}

/// Tells files from directories and refuses the rest. A link to a directory is refused because it may lead in a
/// circle or out to files that are no part of the checkpoint.
fn kind_of(path: &Path) -> Result<Kind> {
    let entry = fs::symlink_metadata(path).map_err(|error| Error::reading(path, error))?;
    if entry.is_dir() {
        return Ok(Kind::Directory);
    }
    match fs::metadata(path) {
        Ok(file) if file.is_file() => Ok(Kind::File),
        Ok(file) if file.is_dir() => {
            Err(Error::file(path, "", "is a link to a directory; put the directory itself here, or remove the link"))
        }
        Ok(_) => Err(Error::file(path, "", "is a device, socket or pipe and cannot be copied; remove it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::file(path, "", "is a link to a file that does not exist; remove it"))
        }
        Err(error) => Err(Error::reading(path, error)),
    }
}

/// Copies one file and flushes the copy to disk.
fn copy_file(source: &Path, target: &Path) -> Result<()> {
    let failed = |error| Error::writing(target, error);
    let mut input = File::open(source).map_err(|error| Error::reading(source, error))?;
    let mut output = File::create_new(target).map_err(failed)?;
    io::copy(&mut input, &mut output).map_err(failed)?;
    output.sync_all().map_err(failed)?;
    copy_permissions(source, target)
}

/// Gives `target` the permissions of `source`. Directories stay accessible to their owner, who is still filling or
/// may have to remove them.
pub(super) fn copy_permissions(source: &Path, target: &Path) -> Result<()> {
    let metadata = fs::metadata(source).map_err(|error| Error::reading(source, error))?;
    let permissions = metadata.permissions();
    #[cfg(unix)]
    let permissions = {
        use std::os::unix::fs::PermissionsExt;
        let owner = if metadata.is_dir() { 0o700 } else { 0 };
        fs::Permissions::from_mode(permissions.mode() | owner)
    };
    fs::set_permissions(target, permissions).map_err(|error| Error::writing(target, error))
}
