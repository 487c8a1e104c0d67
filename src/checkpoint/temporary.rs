//! Names for what is written beside its target and renamed when it is complete: `.<name>.efface-<process>-<number>`.
//! The process in the name lets a later run recognise, and remove, what a killed one left behind.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// What separates the target's name from the process that writes it.
const MARK: &str = ".efface-";

/// The directory that holds `target`, and the target's name in it.
///
/// # Errors
/// When `target` names no entry of a directory (`/`, `..`) or the directory does not exist.
pub(super) fn split(target: &Path) -> Result<(PathBuf, &OsStr)> {
    let Some(name) = target.file_name() else {
        return Err(Error::argument(format!("{} cannot be written: it names no file or directory", target.display())));
    };
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    if !parent.is_dir() {
        let problem = format!("there is no directory {}", parent.display());
        return Err(Error::argument(format!("{} cannot be written: {problem}", target.display())));
    }
    Ok((parent, name))
}

/// Refuses a target that exists, be it a link that leads nowhere.
pub(super) fn refuse_existing(target: &Path) -> Result<()> {
    match fs::symlink_metadata(target) {
        Ok(_) => Err(Error::argument(format!("{} exists already: choose another name or remove it", target.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::writing(target, error)),
    }
}

/// Creates something new beside `target` under a name that no one else uses; `create` must fail on one that exists.
pub(crate) fn create_beside<T>(target: &Path, create: impl Fn(&Path) -> io::Result<T>) -> Result<(PathBuf, T)> {
    let (parent, name) = split(target)?;
    remove_abandoned(&parent, name);
    for number in 0u32.. {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!("{MARK}{}-{number}", std::process::id()));
        let path = parent.join(temporary);
        match create(&path) {
            Ok(created) => return Ok((path, created)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::writing(target, error)),
        }
    }
    Err(Error::Failed(format!("{}: no free name for a temporary file beside it", target.display())))
}

/// The process that writes the temporary entry `name`, if that is what it is.
fn writer_of(name: &str) -> Option<(&str, u32)> {
    let (target, writer) = name.strip_prefix('.')?.rsplit_once(MARK)?;
    let (process, number) = writer.split_once('-')?;
    number.parse::<u32>().ok()?;
    Some((target, process.parse().ok()?))
}

/// Whether `name` is one that [`create_beside`] gives.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    name.to_str().and_then(writer_of).is_some()
}

/// Removes what killed processes of this machine left beside the target `name`. Where the living processes cannot be
/// told (no `/proc`), nothing is removed. A failure is no reason not to write.
fn remove_abandoned(parent: &Path, name: &OsStr) {
    let processes = Path::new("/proc");
    if !processes.join("self").exists() {
        return;
    }
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let entry_name = entry.file_name();
        let Some((target, process)) = entry_name.to_str().and_then(writer_of) else { continue };
        if OsStr::new(target) != name || processes.join(process.to_string()).exists() {
            continue;
        }
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let _ = if is_directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
    }
}

/// Makes the entries of a directory durable: a renamed file survives a power cut only after this.
#[cfg(unix)]
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    match fs::File::open(directory)?.sync_all() {
        // Some network file systems know no flushing of directories.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// Elsewhere directories cannot be opened for flushing; the system orders a rename itself.
#[cfg(not(unix))]
pub(super) fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}
