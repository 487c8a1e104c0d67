//! `efface grads`

use std::collections::BTreeMap;
use std::path::PathBuf;

use efface::Result;
use efface::checkpoint::AtomicFile;
use efface::data::Dataset;
use efface::kernels::precision::Precision;
use efface::model::sink::Sink;
use efface::report::format;
use efface::unlearn::estimator::{BatchWeight, Estimator};
use efface::unlearn::grads::GradSink;
use efface::unlearn::names;
use efface::unlearn::norms::NormSink;
use serde_json::json;

use super::common::Common;
use super::input::{Input, Reading, tokens};
use super::measure::{LabelsName, LossName, name};
use super::output;
use super::precision::PrecisionArgs;
use super::progress::Progress;

/// Write the gradient of every sample: for each tensor [samples, ...shape], F32.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    efface grads --model m --data d.jsonl --tensors 'model.layers.3.*' --out G.safetensors\n  \
    efface grads --model m --data d.jsonl --norms --out N.safetensors")]
pub struct Args {
    /// The checkpoint: a directory with config.json and *.safetensors.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Records in JSON Lines, one or more files.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Which tensors, by name; * stands for any text, ? for a character.
    #[arg(long, value_name = "GLOB", num_args = 1.., required_unless_present = "norms")]
    tensors: Vec<String>,
    /// Write the squared norm of each gradient instead: [samples] for each tensor (of all, without --tensors).
    #[arg(long)]
    norms: bool,
    /// Where the gradients go; must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The loss of a sample over its targets.
    #[arg(long, value_enum, default_value = "mean")]
    loss: LossName,
    /// Labels from the data, or drawn from the model's own distribution.
    #[arg(long, value_enum, default_value = "data")]
    labels: LabelsName,
    #[command(flatten)]
    precision: PrecisionArgs,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
///
/// # Errors
/// When the checkpoint, the data or a setting is wrong, the output exists, the budget is too small, or the work failed.
pub fn run(args: &Args) -> Result<()> {
    AtomicFile::check(&args.out)?;
    let common = &args.common;
    let device = args.precision.open_device(common)?;
    let input = Input::open(&args.model)?;
    let dataset = input.dataset(&args.data, &args.reading)?;
    let model = &*input.model;
    let all = [String::from("*")];
    let wanted = names::select(model, if args.tensors.is_empty() { &all[..] } else { &args.tensors })?;
    let labels = args.labels.labels(common.seed);
    let units = Estimator::Sample.units(&tokens(&dataset), args.loss.loss(), BatchWeight::Samples);
    input.hash_ahead();
    let pass = args.precision.settle(common, input.pass(&device, common, None, labels)?, &units)?;
    let metadata = || metadata(args, &input, &dataset, pass.device.precision());
    let count = wanted.iter().filter(|wanted| **wanted).count();
    let progress = Progress::new(common, "measuring");
    let tick = |done, total| progress.tick(done, total);
    if args.norms {
        let mut sink = NormSink::new(model, wanted, units.len());
        pass.gradients(&units, &mut sink, &tick)?;
        sink.write(AtomicFile::create(&args.out)?, &metadata())?;
    } else {
        // A budget that is too small is refused before room for the gradients is made.
        let probe = NormSink::new(model, wanted.clone(), 0);
        pass.plan(&efface::stream::Demand { sink_bytes: 4, ..pass.demand(&units, Some(&probe as &dyn Sink)) })?;
        let mut sink = GradSink::new(model, wanted, units.len(), &args.out)?;
        pass.gradients(&units, &mut sink, &tick)?;
        sink.write(AtomicFile::create(&args.out)?, &metadata())?;
    }
    let seconds = progress.seconds();
    drop(progress);
    if common.json {
        return output::print_json(&json!({
            "command": "grads", "out": args.out, "tensors": count, "samples": units.len(), "norms": args.norms,
            "seconds": seconds, "device": { "name": device.name(), "peak_memory": device.budget().peak() },
        }));
    }
    let (samples, tensors) = (format::counted(units.len() as u64, "sample"), format::counted(count as u64, "tensor"));
    output::print(&format!("{}: {samples}, {tensors}\n", args.out.display()))
}

fn metadata(args: &Args, input: &Input, dataset: &Dataset, precision: Precision) -> BTreeMap<String, String> {
    let kind = if args.norms { "square_norms" } else { "grads" };
    let pairs = [
        ("kind", kind.to_string()),
        ("loss", name(args.loss)),
        ("labels", name(args.labels)),
        ("samples", dataset.samples.len().to_string()),
        ("tokens", dataset.tokens().to_string()),
        ("model_sha256", input.checkpoint.sha256().into()),
        ("data_sha256", dataset.sha256.clone()),
        ("version", env!("CARGO_PKG_VERSION").into()),
    ];
    let other = Some(("precision", precision.name().to_string())).filter(|_| precision != Precision::Full);
    pairs.into_iter().chain(other).map(|(name, value)| (name.to_string(), value)).collect()
}
