//! Putting a report on disk: both files or neither, and never half of one.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::forget::{ForgetReport, render_html, render_json};
use crate::{Error, Result};

/// Writes `report.html` and `report.json` into `dir`, which is made if it is missing; earlier ones are replaced.
///
/// Both files are complete and synced under temporary names before the first takes its place, so a full disk or a
/// killed run leaves what was there.
///
/// # Errors
/// [`Error::Io`] naming the file that could not be written.
pub fn write_report(dir: &Path, report: &ForgetReport) -> Result<()> {
    write_together(dir, &[("report.html", render_html(report)), ("report.json", render_json(report) + "\n")])
}

fn write_together(dir: &Path, files: &[(&str, String)]) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| Error::writing(dir, e))?;
    let mut pending = Vec::with_capacity(files.len());
    for (name, content) in files {
        pending.push(Pending::write(dir, name, content.as_bytes())?);
    }
    for file in pending {
        file.publish()?;
    }
    sync_dir(dir)
}

/// A complete file under a temporary name; removed when dropped without having been published.
struct Pending {
    temporary: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Pending {
    fn write(dir: &Path, name: &str, content: &[u8]) -> Result<Self> {
        let target = dir.join(name);
        let temporary = dir.join(format!(".{name}.{}.partial", std::process::id()));
        // Made anew: what lies there under this name was left by a killed run or is a link to somewhere else.
        let _ = fs::remove_file(&temporary);
        let mut file =
            File::options().write(true).create_new(true).open(&temporary).map_err(|e| Error::writing(&target, e))?;
        let pending = Pending { temporary, target, published: false };
        file.write_all(content).and_then(|()| file.sync_all()).map_err(|e| Error::writing(&pending.target, e))?;
        Ok(pending)
    }

    fn publish(mut self) -> Result<()> {
        fs::rename(&self.temporary, &self.target).map_err(|e| Error::writing(&self.target, e))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Makes the renames last: on Unix a directory is synced like a file; elsewhere it cannot be opened as one.
fn sync_dir(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Error::writing(dir, e))?;
    }
    Ok(())
}
