//! `efface profile`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::ValueEnum;
use efface::checkpoint::AtomicFile;
use efface::device::Device;
use efface::device::record::{Mode, Recording, Work};
use efface::kernels::Accumulate;
use efface::model::batch::Tokens;
use efface::profile::{Profile, Roofs, trace};
use efface::random::Random;
use efface::report::format;
use efface::report::table::Table;
use efface::stream::{Labels, Pass, Unit};
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::importance::ImportanceSink;
use efface::unlearn::resume::ResumableRun;
use efface::unlearn::store::Discard;
use efface::{Error, Result};
use serde_json::json;

use super::common::Common;
use super::input::{Input, Reading, tokens};
use super::output;
use super::precision::PrecisionArgs;
use super::progress::Progress;

/// Show where the time of a real pass goes: kernel by kernel, and what the device waits for.
///
/// The pass is run once for the first sample, so that shaders are compiled, and then recorded. With --trace, Perfetto
/// (ui.perfetto.dev) shows it: what is read, uploaded, computed and downloaded, and what the host is doing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  efface profile --model models/SmolLM2-135M --samples 16 --tokens 64\n  \
    efface profile --model m --data facts.jsonl --memory 2GiB --trace trace.json\n  \
    efface profile --model m --samples 8 --tokens 128 --mode attribution --bandwidth 4300 --flops 67000")]
pub struct Args {
    /// What is run: a Fisher pass, as `efface fisher` does it, or forward only.
    #[arg(value_enum, default_value = "fisher")]
    pass: PassName,
    /// The checkpoint: a directory with config.json and *.safetensors.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Records in JSON Lines, one or more files.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["samples", "tokens"])]
    data: Vec<PathBuf>,
    /// Without --data: this many samples of random tokens, drawn with --seed.
    #[arg(long, value_name = "N", default_value_t = 16)]
    samples: usize,
    /// Without --data: the tokens of each.
    #[arg(long, value_name = "T", default_value_t = 64)]
    tokens: usize,
    /// How closely a GPU is looked at: production adds nothing but timestamps at the boundaries of passes, whose kernels
    /// share the time; attribution gives every kernel a pass of its own. On the CPU both are exact.
    #[arg(long, value_enum, default_value = "production")]
    mode: ModeName,
    /// Write a trace in the Trace Event format here; must not exist.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Kernels, causes and gaps to list.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// The device's memory bandwidth in GB/s and its rate in GFLOP/s, as `efface bench` measures them: what shares of roofs
    /// refer to.
    #[arg(long, value_name = "GB/S", requires = "flops")]
    bandwidth: Option<f64>,
    /// See --bandwidth.
    #[arg(long, value_name = "GFLOP/S", requires = "bandwidth")]
    flops: Option<f64>,
    #[command(flatten)]
    precision: PrecisionArgs,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    common: Common,
}

/// The pass to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PassName {
    /// Per-sample Fisher.
    Fisher,
    /// Losses only.
    Forward,
}

/// `--mode`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeName {
    /// Timestamps at the boundaries of passes.
    Production,
    /// A pass for every kernel.
    Attribution,
}

/// Runs the command.
///
/// # Errors
/// When the checkpoint, the data or a setting is wrong, the trace exists, the budget is too small, or the work failed.
pub fn run(args: &Args, started: Instant) -> Result<()> {
    if let Some(path) = &args.trace {
        AtomicFile::check(path)?;
    }
    let roofs = roofs(args)?;
    let device = args.precision.open_device(&args.common)?;
    let input = Input::open(&args.model)?;
    let samples = samples(args, &input)?;
    let (first_kernel, recording) = record(args, &device, &input, &samples, started)?;
    let profile = Profile::of(&recording, roofs, args.top);
    if let Some(path) = &args.trace {
        let text = trace(&recording, roofs, &device.name()).to_string();
        let mut file = AtomicFile::create(path)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(|e| Error::writing(path, e))?;
        file.commit()?;
    }
    tell(args, &device, &samples, &profile, first_kernel)
}

fn roofs(args: &Args) -> Result<Option<Roofs>> {
    let (Some(bandwidth), Some(flops)) = (args.bandwidth, args.flops) else { return Ok(None) };
    for (flag, value) in [("--bandwidth", bandwidth), ("--flops", flops)] {
        if !(value.is_finite() && value > 0.0) {
            return Err(Error::argument(format!("{flag} {value}: a rate is a number above 0")));
        }
    }
    Ok(Some(Roofs { bytes_per_second: bandwidth * 1e9, operations_per_second: flops * 1e9 }))
}

fn samples(args: &Args, input: &Input) -> Result<Vec<Arc<Tokens>>> {
    if !args.data.is_empty() {
        return Ok(tokens(&input.dataset(&args.data, &args.reading)?));
    }
    let config = &input.model.config;
    if args.samples == 0 || args.tokens < 2 || args.tokens > config.context {
        return Err(Error::argument(format!(
            "--samples {} --tokens {}: right are 1 sample or more of 2 to {} tokens, the model's context",
            args.samples, args.tokens, config.context
        )));
    }
    let mut random = Random::new(args.common.seed, "profile");
    let one = |number: usize| {
        let ids: Vec<u32> = (0..args.tokens).map(|_| random.below(config.vocabulary) as u32).collect();
        let labels: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        Arc::new(Tokens::new(&ids, &labels, number as u32))
    };
    Ok((0..args.samples).map(one).collect())
}

/// Runs the pass once for the first sample, and then for all. Returns when the first kernel began, in seconds since the
/// program was started, and what was recorded of the second run.
fn record(
    args: &Args,
    device: &Device,
    input: &Input,
    samples: &[Arc<Tokens>],
    started: Instant,
) -> Result<(f64, Recording)> {
    let units = Estimator::Sample.units(samples, Loss::Mean, BatchWeight::Samples);
    let pass = input.pass(device, &args.common, None, Labels::Data)?;
    let pass = args.precision.settle(&args.common, pass, &units)?;
    let mode = match args.mode {
        ModeName::Production => Mode::Production,
        ModeName::Attribution => Mode::Attribution,
    };
    let quiet = |_, _| {};
    let progress = Progress::new(&args.common, "profiling");
    let tick = |done, total| progress.tick(done, total);
    match args.pass {
        PassName::Forward => {
            device.begin_recording(mode)?;
            let begun = started.elapsed().as_secs_f64();
            pass.losses(&samples[..1], &quiet)?;
            let first = begun + first_kernel(&device.end_recording()?);
            device.begin_recording(mode)?;
            pass.losses(samples, &tick)?;
            Ok((first, device.end_recording()?))
        }
        PassName::Fisher => {
            // Refused before anything is begun, if the budget is too small for all of them.
            let mut discard = Discard;
            let mut sink = ImportanceSink::new(&input.model, vec![Accumulate::Square], &mut discard);
            pass.plan(&pass.demand(&units, Some(&sink)))?;
            device.begin_recording(mode)?;
            let begun = started.elapsed().as_secs_f64();
            pass.gradients(&units[..1], &mut sink, &quiet)?;
            let first = begun + first_kernel(&device.end_recording()?);
            Ok((first, accumulate(device, mode, &pass, &units, &tick)?))
        }
    }
}

/// When the first kernel began, in seconds since the recording did.
fn first_kernel(recording: &Recording) -> f64 {
    let kernels = recording.events.iter().filter(|event| matches!(event.work, Work::Kernels(_)));
    kernels.map(|event| event.begin).fold(f64::INFINITY, f64::min)
}

/// As `efface fisher` does it: with the partial result in a directory, which it removes when its result is written.
fn accumulate(device: &Device, mode: Mode, pass: &Pass, units: &[Unit], tick: &dyn Fn(u64, u64)) -> Result<Recording> {
    let directory = std::env::temp_dir().join(format!("efface-profile-{}", std::process::id()));
    let key = || "profile".to_string();
    let run = ResumableRun::begin(&directory, &key)?;
    device.begin_recording(mode)?;
    let done = run.accumulate(pass, units, &[Accumulate::Square], &mut |_| {}, tick).map(drop);
    let recording = device.end_recording();
    let tidied = run.discard();
    done.and(tidied).and(recording)
}

fn tell(args: &Args, device: &Device, samples: &[Arc<Tokens>], profile: &Profile, first_kernel: f64) -> Result<()> {
    let count: usize = samples.iter().map(|sample| sample.ids.len()).sum();
    if args.common.json {
        let kernels = profile.kernels.len().min(args.top);
        let listed = Profile { kernels: profile.kernels[..kernels].to_vec(), ..profile.clone() };
        return output::print_json(&json!({
            "command": "profile", "pass": args.pass.to_possible_value().map(|value| value.get_name().to_string()),
            "device": {
                "name": device.name(), "peak_memory": device.budget().peak(), "staging_peak": device.staging_peak(),
            },
            "samples": samples.len(), "tokens": count, "trace": args.trace, "first_kernel_seconds": first_kernel, "profile": listed,
        }));
    }
    let columns = output::columns();
    let text = [
        kernels(profile, args.top).to_text(columns),
        tracks(profile).to_text(columns),
        causes(profile, args.top).to_text(columns),
        gaps(profile, args.top).to_text(columns),
    ];
    let summary = format!(
        "{} of {} in {} on {} ({}, {})\nkernels {}, the run {} of that; the device was idle for {}\n\
        the first kernel ever began {} after the start of the program\n",
        format::counted(samples.len() as u64, "sample"),
        format::counted(count as u64, "token"),
        format::seconds(profile.seconds),
        device.name(),
        profile.mode,
        profile.clock,
        format::seconds(profile.kernel_seconds),
        format::ratio(profile.over_kernels),
        format::percent(profile.idle_share),
        format::seconds(first_kernel),
    );
    output::print(&format!("{}\n{summary}", text.join("\n")))?;
    if let Some(path) = &args.trace {
        args.common.note(&format!("{}: open it at ui.perfetto.dev", path.display()));
    }
    Ok(())
}

fn kernels(profile: &Profile, top: usize) -> Table {
    let titles = ["kernel", "variant", ">calls", ">total", ">share", ">mean", ">GB/s", ">GFLOP/s", ">of roof"];
    let mut table = Table::new(&titles);
    for kernel in profile.kernels.iter().take(top) {
        table.row([
            kernel.kernel.clone(),
            kernel.variant.clone(),
            format::count(kernel.calls),
            format::seconds(kernel.seconds),
            format::percent(kernel.share),
            format::seconds(kernel.seconds / kernel.calls.max(1) as f64),
            format::number(kernel.gigabytes_per_second()),
            format::number(kernel.gigaflops()),
            kernel.roof_share.map_or_else(String::new, format::percent),
        ]);
    }
    table
}

fn tracks(profile: &Profile) -> Table {
    let mut table = Table::new(&["track", ">events", ">time", ">share of run", ">bytes"]);
    for track in &profile.tracks {
        table.row([
            track.track.to_string(),
            format::count(track.events),
            format::seconds(track.seconds),
            format::percent(track.seconds / profile.seconds),
            if track.bytes > 0 { format::bytes(track.bytes) } else { String::new() },
        ]);
    }
    table
}

fn causes(profile: &Profile, top: usize) -> Table {
    let mut table = Table::new(&[">idle", ">gaps", "while the host was at"]);
    for cause in profile.idle_causes.iter().take(top) {
        table.row([format::seconds(cause.seconds), format::count(cause.gaps), cause.host.clone()]);
    }
    table
}

fn gaps(profile: &Profile, top: usize) -> Table {
    let mut table = Table::new(&[">longest gaps", ">at", "while the host was at"]);
    for gap in profile.gaps.iter().take(top) {
        table.row([format::seconds(gap.seconds), format::seconds(gap.begin), gap.host.clone()]);
    }
    table
}
