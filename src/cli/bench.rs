//! `efface bench`: the machine's roofs, every kernel against them, whole passes.

use std::path::{Path, PathBuf};

use efface::bench::{self, Bench, Case, Job, JobKind, Line, Roofs, SHAPES, Shape, cases, measure, write_random};
use efface::checkpoint::AtomicFile;
use efface::device::Device;
use efface::report::bench::{BenchReport, Skipped, render_html, render_json, render_text};
use efface::stream::PassOptions;
use efface::unlearn::names::matches;
use efface::{Error, Result};

use super::common::Common;
use super::output;
use super::progress::Progress;

/// Measure this machine's roofs, then how close every kernel comes to them, each checked against float64 in the same run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    efface bench\n  \
    efface bench --kernels 'linear/*' --models llama-3-8b --tokens 256 2048 --device gpu\n  \
    efface bench --all --json > bench.json\n  \
    efface bench --whole-job --shape smollm2-135m --html bench.html\n\n\
    Exit status 1 if a kernel's result is wrong, however fast it is.")]
pub struct Args {
    /// Only kernels whose names match (* stands for any text); may be repeated.
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    kernels: Vec<String>,
    /// Shapes of these models: smollm2-135m, qwen2.5-1.5b, llama-3-8b, llama-3-70b [default: the first; with a GPU the first
    /// three].
    #[arg(long, value_name = "NAME", num_args = 1..)]
    models: Vec<String>,
    /// Tokens in a launch, in samples of 64 [default: 64 and 256].
    #[arg(long, value_name = "N", num_args = 1.., value_parser = clap::value_parser!(u32).range(1..=65_536))]
    tokens: Vec<u32>,
    /// Every model with 16, 64, 256 and 2048 tokens.
    #[arg(long, conflicts_with_all = ["models", "tokens"])]
    all: bool,
    /// Seconds for each case.
    #[arg(long, value_name = "S", default_value_t = 0.15, value_parser = positive)]
    seconds: f64,
    /// Time whole passes instead of kernels: Fisher beside the plain backward pass, streamed beside resident, cost over
    /// samples and parameters.
    #[arg(long)]
    whole_job: bool,
    /// The model of the whole passes.
    #[arg(long, value_name = "DIR", requires = "whole_job", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Or random weights of this shape, in a temporary directory [default: smollm2-135m].
    #[arg(long, value_name = "NAME", requires = "whole_job")]
    shape: Option<String>,
    /// Write a page with rooflines and all tables.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

fn positive(text: &str) -> std::result::Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| *value > 0.0 && *value <= 3600.0);
    value.ok_or_else(|| format!("{text:?} is no number of seconds; right are numbers above 0, up to 3600"))
}

/// Runs the command.
///
/// # Errors
/// When a flag names what there is not, the device failed, or a kernel's result is wrong.
pub fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    let selected = if args.whole_job { Vec::new() } else { select(args)? };
    let device = common.open_device()?;
    let cases = if args.whole_job { Vec::new() } else { of_shapes(args, &device, &selected)? };
    let progress = Progress::new(common, "measuring roofs");
    let roofs = Roofs::measure(&device, args.seconds.max(0.3))?;
    drop(progress);
    let mut report = BenchReport {
        version: env!("CARGO_PKG_VERSION").into(),
        command_line: std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
        device: device.name(),
        seed: common.seed,
        roofs,
        kernels: Vec::new(),
        skipped: Vec::new(),
        jobs: Vec::new(),
        lines: Vec::new(),
        notes: Vec::new(),
    };
    if args.whole_job {
        whole_jobs(args, &device, &mut report)?;
    } else {
        kernels(args, &device, &cases, &mut report)?;
    }
    if let Some(path) = &args.html {
        let mut file = AtomicFile::create(path)?;
        std::io::Write::write_all(&mut file, render_html(&report).as_bytes()).map_err(|e| Error::writing(path, e))?;
        file.commit()?;
    }
    if common.json {
        output::print(&(render_json(&report) + "\n"))?;
    } else {
        output::print(&render_text(&report, output::columns()))?;
    }
    match report.failed() {
        0 => Ok(()),
        failed => Err(Error::Failed(format!("{failed} of {} cases gave a wrong result", report.kernels.len()))),
    }
}

/// The patterns of kernels, each of which must match one.
fn select(args: &Args) -> Result<Vec<&'static str>> {
    let all: Vec<&'static str> = efface::kernels::registry().map(|kernel| kernel.name).collect();
    if args.kernels.is_empty() {
        return Ok(all);
    }
    if let Some(pattern) = args.kernels.iter().find(|pattern| !all.iter().any(|name| matches(pattern, name))) {
        return Err(Error::argument(format!("no kernel matches {pattern:?}; there are {}", all.join(", "))));
    }
    Ok(all.into_iter().filter(|name| args.kernels.iter().any(|pattern| matches(pattern, name))).collect())
}

/// The cases of the chosen kernels at the chosen shapes.
fn of_shapes(args: &Args, device: &Device, selected: &[&str]) -> Result<Vec<Case>> {
    let shapes: Vec<&'static Shape> = match (args.all, args.models.is_empty()) {
        (true, _) => SHAPES.iter().collect(),
        (false, false) => bench::shapes(&args.models)?,
        (false, true) => SHAPES[..if device.is_cpu() { 1 } else { 3 }].iter().collect(),
    };
    let tokens: Vec<usize> = match (args.all, args.tokens.is_empty()) {
        (true, _) => vec![16, 64, 256, 2048],
        (false, false) => args.tokens.iter().map(|n| *n as usize).collect(),
        (false, true) => vec![64, 256],
    };
    Ok(cases::all(&shapes, &tokens).into_iter().filter(|case| selected.contains(&case.kernel)).collect())
}

fn kernels(args: &Args, device: &Device, cases: &[Case], report: &mut BenchReport) -> Result<()> {
    let progress = Progress::new(&args.common, "kernels");
    for (number, case) in cases.iter().enumerate() {
        match measure(device, case, &report.roofs, args.seconds, args.common.seed) {
            Ok(measured) => report.kernels.push(measured),
            Err(error @ Error::Budget { .. }) => {
                report.skipped.push(Skipped { case: format!("{case:?}"), reason: error.to_string() });
            }
            Err(error) => return Err(error),
        }
        device.free_scratch();
        progress.tick(number as u64 + 1, cases.len() as u64);
    }
    Ok(())
}

/// Tokens of a whole job in which streaming and residing are compared.
const STREAMED: (usize, usize) = (64, 64);

fn whole_jobs(args: &Args, device: &Device, report: &mut BenchReport) -> Result<()> {
    let common = &args.common;
    let progress = Progress::new(common, "passes");
    let temporary = std::env::temp_dir().join(format!("efface-bench-{}", std::process::id()));
    let result = jobs_in(args, device, report, &temporary, &progress);
    if temporary.exists() {
        std::fs::remove_dir_all(&temporary).map_err(|e| Error::writing(&temporary, e))?;
    }
    result
}

fn jobs_in(
    args: &Args,
    device: &Device,
    report: &mut BenchReport,
    temporary: &Path,
    progress: &Progress,
) -> Result<()> {
    let common = &args.common;
    let options = PassOptions { host_memory: common.host_memory, ..PassOptions::default() };
    let shape = match (&args.shape, &args.model) {
        (Some(name), _) => Some(bench::shapes(std::slice::from_ref(name))?[0]),
        (None, None) => Some(&SHAPES[0]),
        (None, Some(_)) => None,
    };
    let dir = match (&args.model, shape) {
        (Some(dir), _) => dir.clone(),
        (None, Some(shape)) => {
            let dir = temporary.join("model");
            write_random(shape, shape.layers, common.seed, &dir)?;
            dir
        }
        (None, None) => return Err(Error::argument("whole passes need --model or --shape")),
    };
    let model = Bench::open(&dir, common.seed)?;
    let tokens: Vec<usize> = if args.tokens.is_empty() {
        [32, 64, 256].into_iter().filter(|n| *n <= model.context()).collect()
    } else {
        args.tokens.iter().map(|n| *n as usize).collect()
    };
    let total = tokens.len() as u64 * 3 + 2 + 4 + 4;
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress.tick(done, total);
    };
    for tokens in tokens {
        let samples = (1024 / tokens).max(2);
        for kind in [JobKind::Forward, JobKind::Backward, JobKind::Fisher] {
            report.jobs.push(model.time(device, kind, (samples, tokens), options)?);
            step();
        }
    }
    streamed(&model, device, options, report, &mut step)?;
    let mut points = Vec::new();
    for samples in [4, 8, 16, 32] {
        let job = model.time(device, JobKind::Fisher, (samples, 64.min(model.context())), options)?;
        points.push((samples as f64, job.seconds[0]));
        step();
    }
    report.lines.push(Line::through("samples", points));
    if let Some(shape) = shape {
        let mut points = Vec::new();
        for part in [1, 2, 3, 4] {
            let layers = (shape.layers * part / 4).max(part);
            let dir = temporary.join(format!("layers-{layers}"));
            write_random(shape, layers, common.seed, &dir)?;
            let smaller = Bench::open(&dir, common.seed)?;
            let job = smaller.time(device, JobKind::Fisher, (16, 64), options)?;
            points.push((smaller.parameters() as f64, job.seconds[0]));
            drop(smaller);
            std::fs::remove_dir_all(&dir).map_err(|e| Error::writing(&dir, e))?;
            step();
        }
        report.lines.push(Line::through("parameters", points));
    }
    Ok(())
}

/// The same pass with all weights on the device and with a budget of a tenth of the model.
fn streamed(
    model: &Bench,
    device: &Device,
    options: PassOptions,
    report: &mut BenchReport,
    step: &mut dyn FnMut(),
) -> Result<()> {
    let size = (STREAMED.0, STREAMED.1.min(model.context()));
    let before = device.budget().limit();
    let resident = model.time(device, JobKind::Fisher, size, options)?;
    step();
    device.free_scratch();
    let tenth = model.tenth(device, size, options)?;
    device.set_memory(tenth);
    let streamed = model.time(device, JobKind::Fisher, size, options);
    device.set_memory(before);
    let streamed = streamed?;
    step();
    let ratio = streamed.seconds[0] / resident.seconds[0];
    report.notes.push(format!(
        "streamed through {} beside resident: {ratio:.2} times the time",
        efface::report::format::bytes(tenth)
    ));
    let named = |job: Job, how: &str| Job { name: format!("Fisher diagonal, {how}"), ..job };
    report.jobs.push(named(resident, "no limit"));
    report.jobs.push(named(streamed, "a tenth"));
    Ok(())
}
