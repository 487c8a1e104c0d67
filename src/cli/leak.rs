//! `efface leak`

use std::io::Write as _;
use std::path::PathBuf;

use efface::checkpoint::AtomicFile;
use efface::data::ProbeKind;
use efface::device::Device;
use efface::eval::scores::form_scores;
use efface::eval::{EvalOptions, FormResult, evaluate};
use efface::report::forget::Role;
use efface::report::scores::LeakMatrix;
use efface::stream::Labels;
use efface::{Error, Result};
use serde_json::json;

use super::common::Common;
use super::eval::end_tokens;
use super::input::{Input, Reading, refusals};
use super::output;
use super::progress::Progress;

/// Show what leaks into other forms: models that forgot in one form each, asked in every form.
///
/// A cell is the share of the facts which the baseline knows in a form and the edited model still answers in it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  efface leak --baseline m --run statement=edited1 --run question=edited2 --probes facts.jsonl \
    --forms all\n  efface leak --baseline m --run all=edited --probes facts.jsonl --forms all --json --picture leak.svg"
)]
pub struct Args {
    /// The checkpoint before the edits: only what it knew counts.
    #[arg(long, value_name = "DIR")]
    baseline: PathBuf,
    /// An edited checkpoint under the name of the form that it forgot in; may be given several times.
    #[arg(long, value_name = "FORM=DIR", required = true)]
    run: Vec<String>,
    /// The facts that were to be forgotten, in JSON Lines.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    probes: Vec<PathBuf>,
    /// Also draw the matrix, as SVG.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
///
/// # Errors
/// When a checkpoint or the probes are wrong, the budget is too small, or the work failed.
pub fn run(args: &Args) -> Result<()> {
    let (leak, sha256) = matrix(args)?;
    if let Some(path) = &args.picture {
        let mut file = AtomicFile::replace(path)?;
        file.write_all(leak.picture().draw().finish().as_bytes()).map_err(|error| Error::writing(path, error))?;
        file.commit()?;
    }
    match args.common.json {
        true => output::print_json(&json!({ "command": "leak", "data_sha256": sha256, "leak": leak })),
        false => output::print(&leak.table().to_text(output::columns())),
    }
}

/// Asks every model: the matrix, and the hash of the probes.
///
/// # Errors
/// When a checkpoint or the probes are wrong, the budget is too small, or the work failed.
pub fn matrix(args: &Args) -> Result<(LeakMatrix, String)> {
    let common = &args.common;
    let runs = args.run.iter().map(|run| named(run)).collect::<Result<Vec<_>>>()?;
    let device = common.open_device()?;
    let baseline = Input::open(&args.baseline)?;
    let probes = baseline.probes(&args.probes, &args.reading)?;
    if probes.probes.iter().all(|probe| probe.kind == ProbeKind::Text) {
        return Err(Error::argument("there are only texts among the probes: nothing can be asked"));
    }
    refusals(&probes.refused).iter().for_each(|sentence| common.note(sentence));
    let ask = |input: &Input| ask(common, &device, input, &probes.probes);
    let before = ask(&baseline)?;
    let mut leak = LeakMatrix::default();
    for (form, directory) in runs {
        let input = Input::open(&directory)?;
        if input.model.config.vocabulary != baseline.model.config.vocabulary {
            return Err(Error::file(&directory, "", "this is another model than the baseline: its vocabulary differs"));
        }
        leak.add(form, &form_scores(&probes.probes, &before, &ask(&input)?, Role::Forget, &|_| true));
    }
    Ok((leak, probes.sha256))
}

fn named(run: &str) -> Result<(&str, PathBuf)> {
    match run.split_once('=') {
        Some((form, directory)) if !form.is_empty() && !directory.is_empty() => Ok((form, directory.into())),
        _ => Err(Error::argument(format!("--run {run}: FORM=DIR is needed"))),
    }
}

fn ask(common: &Common, device: &Device, input: &Input, probes: &[efface::data::Probe]) -> Result<Vec<FormResult>> {
    let pass = input.pass(device, common, None, Labels::Data)?;
    let options = EvalOptions { eos: end_tokens(&input.checkpoint), ..EvalOptions::default() };
    let progress = Progress::new(common, "asking");
    evaluate(&pass, probes, input.encoder(), &options, &|done, total| progress.tick(done, total))
}
