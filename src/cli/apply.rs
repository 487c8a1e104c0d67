//! `efface apply` and `efface revert`

use std::path::{Path, PathBuf};

use efface::Result;
use efface::checkpoint::{Checkpoint, Patch, apply_patch, revert_patch};
use efface::report::format;
use serde_json::json;

use super::common::Common;
use super::output;

/// Make the edited checkpoint from the old one and a patch, bit for bit.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  efface apply --model models/base --patch removal.patch --out models/edited")]
pub struct ApplyArgs {
    #[command(flatten)]
    files: Files,
}

/// Make the old checkpoint from the edited one and a reversible patch, bit for bit.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  efface revert --model models/edited --patch removal.patch --out models/base")]
pub struct RevertArgs {
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, clap::Args)]
struct Files {
    /// The checkpoint to start from.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The patch.
    #[arg(long, value_name = "FILE")]
    patch: PathBuf,
    /// Where the checkpoint goes; must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Runs `apply`.
///
/// # Errors
/// When the patch does not belong to the checkpoint or is damaged, or the output exists or cannot be written.
pub fn apply(args: &ApplyArgs) -> Result<()> {
    replay(&args.files, "apply", apply_patch)
}

/// Runs `revert`.
///
/// # Errors
/// As [`apply`], and when the patch holds no old values.
pub fn revert(args: &RevertArgs) -> Result<()> {
    replay(&args.files, "revert", revert_patch)
}

fn replay(files: &Files, name: &str, make: fn(&Checkpoint, &Path, &Path) -> Result<()>) -> Result<()> {
    let checkpoint = Checkpoint::open(&files.model)?;
    make(&checkpoint, &files.patch, &files.out)?;
    let patch = Patch::open(&files.patch)?;
    let (tensors, elements) = patch.changes().fold((0u64, 0u64), |(t, e), (_, n)| (t + 1, e + n as u64));
    let sha256 = if name == "apply" { patch.result_sha256() } else { patch.base_sha256() };
    if files.common.json {
        return output::print_json(&json!({
            "command": name, "model": files.model, "patch": files.patch, "out": files.out,
            "tensors": tensors, "elements": elements, "sha256": sha256,
        }));
    }
    let (elements, tensors) = (format::counted(elements, "element"), format::counted(tensors, "tensor"));
    output::print(&format!("{}: {elements} in {tensors} changed, sha256 {sha256}\n", files.out.display()))
}
