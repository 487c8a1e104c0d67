//! `efface eval`

use std::collections::BTreeMap;
use std::path::PathBuf;

use efface::Result;
use efface::checkpoint::Checkpoint;
use efface::data::ProbeSet;
use efface::device::Device;
use efface::eval::{EvalOptions, evaluate};
use efface::report::EvalReport;
use efface::report::eval::{EvalResult, render_json, render_text};
use efface::report::forget::{DataFile, DeviceUse, PhaseTime};
use efface::stream::Labels;
use serde_json::json;

use super::common::Common;
use super::input::{Input, Reading};
use super::output;
use super::progress::Progress;

/// Evaluate a model: for each file and form the probability of the gold answer, greedy exact match and ROUGE-L recall.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  efface eval --model models/edited --probes facts.jsonl paraphrases.jsonl\n  \
    efface eval --model models/edited --probes facts.jsonl --likelihood-only --json")]
pub struct Args {
    /// The checkpoint: a directory with config.json and *.safetensors.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Probes in JSON Lines, one or more files: the last target of a record is the gold answer.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    probes: Vec<PathBuf>,
    /// Only how likely the gold answers are; let the model answer nothing.
    #[arg(long)]
    likelihood_only: bool,
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
    let device = common.open_device()?;
    let started = std::time::Instant::now();
    let input = Input::open(&args.model)?;
    let probes = input.probes(&args.probes, &args.reading)?;
    let pass = input.pass(&device, common, None, Labels::Data)?;
    let reading = started.elapsed().as_secs_f64();
    let options = EvalOptions {
        generate: !args.likelihood_only,
        answer_tokens: args.answer_tokens.map(|tokens| tokens as usize),
        eos: end_tokens(&input.checkpoint),
    };
    let progress = Progress::new(common, "evaluating");
    let results =
        evaluate(&pass, &probes.probes, input.encoder(), &options, &|done, total| progress.tick(done, total))?;
    let phases = [("reading", reading), ("evaluating", progress.seconds())];
    drop(progress);
    let results: Vec<EvalResult> = results.iter().map(EvalResult::from).collect();
    let report = report(args, &input, &probes, results, &device, &phases);
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
    probes: &ProbeSet,
    results: Vec<EvalResult>,
    device: &Device,
    phases: &[(&str, f64)],
) -> EvalReport {
    let mut settings = serde_json::Map::new();
    settings.insert("likelihood_only".into(), args.likelihood_only.into());
    settings.insert("answer_tokens".into(), json!(args.answer_tokens));
    settings.insert("qa_template".into(), json!(args.reading.qa_template));
    settings.insert("system".into(), json!(args.reading.system));
    settings.insert("eos".into(), args.reading.eos.into());
    settings.insert("relations".into(), json!(args.reading.relations));
    settings.insert("data_sha256".into(), probes.sha256.clone().into());
    EvalReport {
        version: env!("CARGO_PKG_VERSION").into(),
        command_line: std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
        settings,
        seed: args.common.seed,
        model: args.model.display().to_string(),
        model_sha256: input.checkpoint.sha256().into(),
        family: input.model.config.family.name().into(),
        parameters: input.model.parameter_count() as u64,
        data: files(probes),
        results,
        phases: phases.iter().map(|(phase, seconds)| PhaseTime { phase: (*phase).into(), seconds: *seconds }).collect(),
        device: DeviceUse {
            name: device.name(),
            memory_budget: args.common.memory,
            memory_peak: Some(device.budget().peak()),
            host_memory_budget: args.common.host_memory,
            host_memory_peak: None,
        },
        warnings: Vec::new(),
    }
}

/// The files with what was made of them.
fn files(probes: &ProbeSet) -> Vec<DataFile> {
    let mut made: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for probe in &probes.probes {
        let (samples, tokens) = made.entry(probe.origin.path.display().to_string()).or_default();
        *samples += 1;
        *tokens += (probe.prompt_ids.len() + probe.gold_ids.len()) as u64;
    }
    let file = |file: &efface::data::InputFile| {
        let path = file.path.display().to_string();
        let (samples, tokens) = made.get(&path).copied().unwrap_or_default();
        let (sha256, records) = (file.sha256.clone(), file.records as u64);
        DataFile { path, used_for: "probes".into(), sha256, records, samples, tokens }
    };
    probes.files.iter().map(file).collect()
}
