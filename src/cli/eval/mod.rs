//! `efface eval`: a model by itself, and against the model before an edit (`against.rs`), also under attack (`attack.rs`).

mod against;
mod attack;
mod choices;
mod membership;

use std::io::Write as _;
use std::path::PathBuf;

use efface::checkpoint::{AtomicFile, Checkpoint};
use efface::device::Device;
use efface::eval::EvalOptions;
use efface::report::EvalReport;
use efface::report::eval::{EvalResult, render_html, render_json, render_text};
use efface::report::forget::{DeviceUse, PhaseTime};
use efface::stream::Labels;
use efface::{Error, Result};
use serde_json::json;

use super::common::Common;
use super::input::{Input, Reading};
use super::output;

/// Evaluate a model: for each file and form the probability of the gold answer, greedy exact match and ROUGE-L recall.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  efface eval --model models/edited --probes facts.jsonl paraphrases.jsonl\n  \
    efface eval --model models/edited --probes facts.jsonl --likelihood-only --json\n  \
    efface eval --model edited --baseline m --probes-forget facts.jsonl --probes-retain others.jsonl --forms all \\\n    \
    --attack 4-bit,relearn,sampling,hints --html eval.html")]
pub struct Args {
    /// The checkpoint: a directory with config.json and *.safetensors.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Probes in JSON Lines, one or more files: the last target of a record is the gold answer.
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present_any = ["probes_forget", "probes_retain", "members"])]
    probes: Vec<PathBuf>,
    #[command(flatten)]
    against: against::AgainstArgs,
    #[command(flatten)]
    attacks: attack::AttackArgs,
    /// Also write the report as a page here: the scores, every form, neighbours, attacks, membership.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Only how likely the gold answers are; let the model answer nothing.
    #[arg(long)]
    likelihood_only: bool,
    /// Also weigh the gold answers against wrong ones: multiple choice, and TOFU's truth ratio and model utility.
    #[arg(long)]
    choices: bool,
    /// A checkpoint that never saw the forget set: forget quality is tested against it.
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    #[command(flatten)]
    membership: membership::MembershipArgs,
    /// The most tokens of an answer [default: 16 more than the gold answer has].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    answer_tokens: Option<u32>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
///
/// # Errors
/// When the checkpoint or the probes are wrong, the budget is too small, or the work failed.
pub fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    // Begun before the work, so that a place that cannot be written to is found out now.
    let page = args.html.as_deref().map(AtomicFile::replace).transpose()?;
    let device = common.open_device()?;
    let started = std::time::Instant::now();
    let input = Input::open(&args.model)?;
    let sets = against::Sets::read(args, &input)?;
    let pass = input.pass(&device, common, None, Labels::Data)?;
    let reading = started.elapsed().as_secs_f64();
    let options = EvalOptions {
        generate: !args.likelihood_only,
        answer_tokens: args.answer_tokens.map(|tokens| tokens as usize),
        eos: end_tokens(&input.checkpoint),
        sampling: None,
    };
    attack::check(args, &input, &sets, &options)?;
    let mut phases = vec![("reading".to_string(), reading)];
    let results = sets.ask(common, &pass, &input, &options, "evaluating", &mut phases)?;
    let weighed = choices::choices(args, &input, &device, &pass, &sets, &results)?;
    let membership = membership::membership(args, &input, &pass)?;
    let verdict = against::judge(args, &input, &device, &sets, &results, &options, &mut phases)?;
    let rows: Vec<EvalResult> = results.iter().flatten().map(EvalResult::from).collect();
    let mut report = report(args, &input, &sets, (rows, verdict), &device, &phases);
    (report.choices, report.model_utility) = (weighed.results, weighed.utility);
    (report.forget_quality, report.membership) = (weighed.quality, membership);
    if let Some(mut page) = page {
        let written = page.write_all(render_html(&report).as_bytes());
        written.map_err(|error| Error::writing(page.target(), error))?;
        page.commit()?;
    }
    if common.json {
        return output::print(&format!("{}\n", render_json(&report)));
    }
    output::print(&render_text(&report, output::columns()))
}

/// The tokens that end an answer according to config.json; a tokenizer may know further ones.
pub fn end_tokens(checkpoint: &Checkpoint) -> Vec<u32> {
    let token = |value: &serde_json::Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match checkpoint.config().get("eos_token_id") {
        Some(serde_json::Value::Array(several)) => several.iter().filter_map(token).collect(),
        Some(one) => token(one).into_iter().collect(),
        None => Vec::new(),
    }
}

fn report(
    args: &Args,
    input: &Input,
    sets: &against::Sets,
    (results, verdict): (Vec<EvalResult>, against::Verdict),
    device: &Device,
    phases: &[(String, f64)],
) -> EvalReport {
    let mut settings = serde_json::Map::new();
    settings.insert("likelihood_only".into(), args.likelihood_only.into());
    settings.insert("answer_tokens".into(), json!(args.answer_tokens));
    settings.extend(args.reading.settings());
    settings.insert("data_sha256".into(), json!(sets.hashes()));
    settings.extend(args.against.settings());
    settings.extend(args.attacks.settings());
    EvalReport {
        version: env!("CARGO_PKG_VERSION").into(),
        command_line: std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
        settings,
        seed: args.common.seed,
        model: args.model.display().to_string(),
        model_sha256: input.checkpoint.sha256().into(),
        family: input.model.config.family.name().into(),
        parameters: input.model.parameter_count() as u64,
        data: sets.files(),
        results,
        scores: verdict.scores,
        forms: verdict.forms,
        neighbours: verdict.neighbours,
        attacks: verdict.attacks,
        choices: Vec::new(),
        model_utility: None,
        forget_quality: None,
        membership: Vec::new(),
        phases: phases.iter().map(|(phase, seconds)| PhaseTime { phase: phase.clone(), seconds: *seconds }).collect(),
        device: DeviceUse {
            name: device.name(),
            memory_budget: args.common.memory,
            memory_peak: Some(device.budget().peak()),
            host_memory_budget: args.common.host_memory,
            host_memory_peak: None,
        },
        warnings: sets.warnings().into_iter().chain(verdict.warnings).collect(),
    }
}
