//! `efface fisher`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use efface::checkpoint::AtomicFile;
use efface::data::Dataset;
use efface::device::Device;
use efface::kernels::precision::Precision;
use efface::report::format;
use efface::stream::{PassReport, Unit};
use efface::unlearn::importance::{Kind, write_importance};
use efface::unlearn::resume::{ResumableRun, Start};
use efface::unlearn::store::DirectoryStore;
use efface::{Error, Result};
use serde_json::json;

use super::common::Common;
use super::input::{Input, Reading, refusals, tokens};
use super::measure::Measure;
use super::output;
use super::precision::PrecisionArgs;
use super::progress::Progress;

/// Measure what every parameter means to a set of samples: the Fisher diagonal and its relatives.
///
/// The result is a safetensors file, F32, under the checkpoint's tensor names. An interrupted run leaves OUT.partial beside
/// the output; the same call goes on from there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  efface fisher --model models/SmolLM2-135M --data facts.jsonl --out F.safetensors\n  \
    efface fisher --model models/Llama-3.1-8B --memory 4GiB --data facts.jsonl --out F.safetensors\n  \
    efface fisher --model m --data d.jsonl --kind fisher,abs --out F.safetensors   (F.fisher.safetensors, F.abs...)\n  \
    efface fisher --model m --data d.jsonl --estimator batch:8 --out F.safetensors"
)]
pub struct Args {
    /// The checkpoint: a directory with config.json and *.safetensors.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Records in JSON Lines, one or more files.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Where the importance goes; must not exist. With several kinds, each kind's name is put before the extension.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What to measure, separated by commas: fisher, abs, mean, variance.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_value = "fisher")]
    kind: Vec<Kind>,
    #[command(flatten)]
    measure: Measure,
    #[command(flatten)]
    precision: PrecisionArgs,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    common: Common,
}

/// What was measured, and on what.
pub struct Done {
    dataset: Dataset,
    device: Device,
    report: PassReport,
    seconds: f64,
}

/// Runs the command.
///
/// # Errors
/// When the checkpoint, the data or a setting is wrong, an output exists, the budget is too small, or the work failed.
pub fn run(args: &Args) -> Result<()> {
    tell(args, &measure_and_write(args)?)
}

/// Runs the command but for telling what came of it.
///
/// # Errors
/// As [`run`].
pub fn measure_and_write(args: &Args) -> Result<Done> {
    let outputs = outputs(args);
    let partial = partial(&args.out);
    let taken = outputs.iter().find_map(|(_, path)| AtomicFile::check(path).err());
    // A run that was killed while it wrote its output may have written a part of it.
    let taken = match taken {
        Some(error) if !partial.is_dir() => return Err(error),
        taken => taken,
    };
    let device = args.precision.open_device(&args.common)?;
    let input = Input::open(&args.model)?;
    let dataset = input.dataset(&args.data, &args.reading)?;
    refusals(&dataset.refused).iter().for_each(|sentence| args.common.note(sentence));
    let units = args.measure.units(&tokens(&dataset));
    // The model is hashed while the pass runs: the first who asks for the hash waits for it.
    input.hash_ahead();
    let pass = input.measuring(&device, &args.common, None, &args.measure)?;
    let device = args.precision.settle(&args.common, pass, &units)?.device;
    let metadata = || metadata(args, &input, &dataset, device.precision());
    let key = || key(args, &metadata(), &device);

    let run = ResumableRun::begin(&partial, &key)?;
    if let Some(error) = taken.filter(|_| !run.was_complete()) {
        return Err(error);
    }
    let done = measure(args, &device, &input, &units, &run, &outputs, &metadata);
    match done {
        Ok((report, seconds)) => {
            run.discard()?;
            Ok(Done { dataset, device, report, seconds })
        }
        Err(error) => {
            // A wrong call leaves nothing behind, and nothing of an earlier run undone.
            if matches!(error, Error::Failed(_)) || (error.is_input() && !run.found()) {
                let _ = run.discard();
            }
            Err(error)
        }
    }
}

fn measure(
    args: &Args,
    device: &Device,
    input: &Input,
    units: &[Unit],
    run: &ResumableRun<'_>,
    outputs: &[(Kind, PathBuf)],
    metadata: &dyn Fn() -> BTreeMap<String, String>,
) -> Result<(PassReport, f64)> {
    let common = &args.common;
    let saved = run.memory();
    if let (Some((memory, _)), None) = (saved, common.memory) {
        device.set_memory(memory);
    }
    let host_memory = saved.map(|(_, host)| host).filter(|_| common.host_memory.is_none());
    let pass = input.measuring(device, common, host_memory, &args.measure)?;
    let sums = Kind::sums_of(&args.kind);
    let progress = Progress::new(common, "measuring");
    let mut say = |start: &Start| match start {
        Start::Fresh => {}
        Start::Resumed { group, groups, stage, stages } => common.note(&format!(
            "going on from an interrupted run: group {} of {groups}, stage {stage} of {stages}",
            group + 1
        )),
        Start::Over { reason } => common.note(&format!("starting over, the interrupted run is of no use: {reason}")),
    };
    // Outputs that exist are this run's own then, also where it was killed while it tidied up and measures again.
    let written = run.was_complete();
    let (store, report): (DirectoryStore, PassReport) =
        run.accumulate(&pass, units, &sums, &mut say, &|done, total| progress.tick(done, total))?;
    let seconds = progress.seconds();
    drop(progress);
    if let Some(number) = report.losses.iter().position(|loss| !loss.mean().is_finite()) {
        let loss = report.losses[number].mean();
        return Err(Error::Failed(format!("the loss of sample {number} is {loss}: no importance can be made of it")));
    }
    run.mark_complete()?;
    for (kind, path) in outputs.iter().filter(|(_, path)| !(written && path.exists())) {
        write_importance(AtomicFile::create(path)?, &input.model, *kind, &store, units.len(), &metadata())?;
    }
    Ok((report, seconds))
}

/// The kinds asked for, each once, and their files.
fn outputs(args: &Args) -> Vec<(Kind, PathBuf)> {
    let mut kinds = args.kind.clone();
    kinds.sort_unstable();
    kinds.dedup();
    let single = kinds.len() == 1;
    let path = |kind: Kind| if single { args.out.clone() } else { with_kind(&args.out, kind) };
    kinds.into_iter().map(|kind| (kind, path(kind))).collect()
}

/// `F.safetensors` becomes `F.fisher.safetensors`.
fn with_kind(out: &Path, kind: Kind) -> PathBuf {
    match out.extension() {
        Some(extension) => {
            let mut full = std::ffi::OsString::from(kind.name());
            full.push(".");
            full.push(extension);
            out.with_extension(full)
        }
        None => out.with_extension(kind.name()),
    }
}

fn partial(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// What every importance file says of itself.
fn metadata(args: &Args, input: &Input, dataset: &Dataset, precision: Precision) -> BTreeMap<String, String> {
    let mut metadata: BTreeMap<String, String> =
        args.measure.names().into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    metadata.insert("samples".into(), dataset.samples.len().to_string());
    metadata.insert("tokens".into(), dataset.tokens().to_string());
    metadata.insert("targets".into(), dataset.targets().to_string());
    metadata.insert("model_sha256".into(), input.checkpoint.sha256().into());
    metadata.insert("data_sha256".into(), dataset.sha256.clone());
    metadata.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    if precision != Precision::Full {
        metadata.insert("precision".into(), precision.name().into());
    }
    if matches!(args.measure.labels, super::measure::LabelsName::Model) {
        metadata.insert("seed".into(), args.common.seed.to_string());
    }
    metadata
}

/// What an interrupted run's sums depend on.
fn key(args: &Args, metadata: &BTreeMap<String, String>, device: &Device) -> String {
    let sums: Vec<&str> = Kind::sums_of(&args.kind).into_iter().map(|sum| sum.name()).collect();
    let device = if device.is_cpu() { "cpu".into() } else { device.name() };
    json!({ "settings": metadata, "sums": sums, "device": device }).to_string()
}

fn tell(args: &Args, done: &Done) -> Result<()> {
    let (Done { dataset, device, report, seconds }, outputs) = (done, outputs(args));
    let loss = report.losses.iter().map(|loss| loss.mean()).sum::<f64>() / report.losses.len() as f64;
    if args.common.json {
        let outputs: Vec<_> = outputs.iter().map(|(kind, path)| json!({ "kind": kind.name(), "path": path })).collect();
        return output::print_json(&json!({
            "command": "fisher", "out": outputs, "samples": dataset.samples.len(), "tokens": dataset.tokens(),
            "targets": dataset.targets(), "mean_loss": loss, "data_sha256": dataset.sha256, "seconds": seconds,
            "precision": device.precision().name(),
            "device": { "name": device.name(), "peak_memory": device.budget().peak() }, "plan": report.plan,
        }));
    }
    for (kind, path) in &outputs {
        output::print(&format!("{}: {}\n", path.display(), kind.name()))?;
    }
    args.common.note(&format!(
        "{} ({}), mean loss {}, in {} on {}, at most {} of device memory",
        format::counted(dataset.samples.len() as u64, "sample"),
        format::counted(dataset.tokens() as u64, "token"),
        format::fixed(loss, 3),
        format::seconds(*seconds),
        device.name(),
        format::bytes(device.budget().peak()),
    ));
    Ok(())
}
