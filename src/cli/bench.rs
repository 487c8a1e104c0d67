//! `efface bench`: the machine's roofs, every kernel against them, whole passes.

use std::path::{Path, PathBuf};

use efface::bench::{
    self, Bench, Case, Job, JobKind, Line, Roofs, SHAPES, Shape, cases, choose, has_variants, measure, try_variants,
    write_random,
};
use efface::checkpoint::AtomicFile;
use efface::device::Device;
use efface::kernels::roof::matrix_multiply;
use efface::kernels::tuning::{AdapterClass, Tuning};
use efface::report::bench::{BenchReport, Removal, Skipped, render_html, render_json, render_text};
use efface::stream::PassOptions;
use efface::unlearn::names::matches;
use efface::{Error, Result};

use super::common::Common;
use super::output;
use super::precision::{PrecisionArgs, PrecisionName};
use super::progress::Progress;

/// Measure this machine's roofs, then how close every kernel comes to them, each checked against float64 in the same run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    efface bench\n  \
    efface bench --kernels 'linear/*' --models llama-3-8b --tokens 256 2048 --device gpu\n  \
    efface bench --all --json > bench.json\n  \
    efface bench --tune --kernels 'linear/*' --device gpu\n  \
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
    /// Try every variant of the kernels that have several, take for each class of shapes the fastest one that is right, and
    /// keep that in the user's cache directory for later runs of every command on this adapter.
    #[arg(long, conflicts_with = "whole_job")]
    tune: bool,
    /// Time whole passes instead of kernels: Fisher beside the plain backward pass, streamed beside resident, cost over
    /// samples and parameters, and `efface demo` from start to end.
    #[arg(long)]
    whole_job: bool,
    /// The model of the whole passes.
    #[arg(long, value_name = "DIR", requires = "whole_job", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Or random weights of this shape, in a temporary directory [default: smollm2-135m].
    #[arg(long, value_name = "NAME", requires = "whole_job")]
    shape: Option<String>,
    /// Keep the checkpoint of random weights here; must not exist.
    #[arg(long, value_name = "DIR", requires = "whole_job", conflicts_with = "model")]
    keep: Option<PathBuf>,
    /// Write a page with rooflines and all tables.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write what --json prints to a file as well.
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    #[command(flatten)]
    precision: PrecisionArgs,
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
    if !args.whole_job && args.precision.precision != PrecisionName::Full {
        return Err(Error::argument(
            "--precision belongs to --whole-job; the kernels linear/mixed_* are timed without it",
        ));
    }
    // Refused now rather than after minutes of work.
    for path in [&args.html, &args.json_file].into_iter().flatten() {
        AtomicFile::check(path)?;
    }
    let selected = if args.whole_job { Vec::new() } else { select(args)? };
    let device = args.precision.open_device(common)?;
    let cache = tuning_file(args, &device)?;
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
        tuned: Vec::new(),
        jobs: Vec::new(),
        removal: None,
        lines: Vec::new(),
        notes: Vec::new(),
    };
    if args.whole_job {
        whole_jobs(args, &device, &mut report)?;
    } else if let Some(path) = &cache {
        tune(args, &device, &cases, path, &mut report)?;
    } else {
        kernels(args, &device, &cases, &mut report)?;
    }
    if let Some(path) = &args.html {
        save(path, &render_html(&report))?;
    }
    if let Some(path) = &args.json_file {
        save(path, &(render_json(&report) + "\n"))?;
    }
    if common.json {
        output::print(&(render_json(&report) + "\n"))?;
    } else {
        output::print(&render_text(&report, output::columns()))?;
    }
    match (report.failed(), report.wrong_variants()) {
        (0, 0) => Ok(()),
        (0, wrong) => Err(Error::Failed(format!("{wrong} variants gave a wrong result"))),
        (failed, _) => Err(Error::Failed(format!("{failed} of {} cases gave a wrong result", report.kernels.len()))),
    }
}

fn save(path: &Path, text: &str) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(|e| Error::writing(path, e))?;
    file.commit()
}

/// Where `--tune` keeps what it finds.
fn tuning_file(args: &Args, device: &Device) -> Result<Option<PathBuf>> {
    if !args.tune {
        return Ok(None);
    }
    if device.is_cpu() {
        return Err(Error::argument("--tune: on the CPU every kernel has one variant; choose a GPU with --device"));
    }
    let path = Tuning::cache_file();
    let reason =
        "--tune: the environment names no cache directory; set XDG_CACHE_HOME or HOME (on Windows LOCALAPPDATA)";
    path.ok_or_else(|| Error::argument(reason)).map(Some)
}

/// Tries variants, and writes what is to be taken to `path`.
fn tune(args: &Args, device: &Device, cases: &[Case], path: &Path, report: &mut BenchReport) -> Result<()> {
    let cases: Vec<&Case> = cases.iter().filter(|case| has_variants(case)).collect();
    if cases.is_empty() {
        return Err(Error::argument("--tune: the chosen kernels have one variant each"));
    }
    let progress = Progress::new(&args.common, "variants");
    let mut tried = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        match try_variants(device, case, args.seconds, args.common.seed) {
            Ok(found) => tried.extend(found),
            Err(error @ Error::Budget { .. }) => {
                report.skipped.push(Skipped { case: format!("{case:?}"), reason: error.to_string() });
            }
            Err(error) => return Err(error),
        }
        device.free_scratch();
        progress.tick(number as u64 + 1, cases.len() as u64);
    }
    let (tuning, tuned) = choose(device, tried)?;
    let taken = tuned.iter().filter(|tuned| tuned.taken.is_some()).count();
    if taken > 0 {
        tuning.write(&device.name(), path)?;
        report.notes.push(format!("{taken} of {} classes changed; kept in {}", tuned.len(), path.display()));
    } else {
        report.notes.push(format!("none of {} classes changed", tuned.len()));
    }
    report.tuned = tuned;
    Ok(())
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
    if report.roofs.product.is_some_and(|product| product > 1.1 * report.roofs.multiply_add) {
        report.notes.push(
            "The dense product is faster than the multiply-adds that it consists of: the machine was busy with something else while \
             the roofs were measured, and shares of them mean little."
                .into(),
        );
    }
    for (number, case) in cases.iter().enumerate() {
        if device.is_cpu() && case.kernel == matrix_multiply::KERNEL.name {
            let reason =
                "the CPU has no matrix units: its twin computes once what all their fragments would".to_string();
            report.skipped.push(Skipped { case: format!("{case:?}"), reason });
            continue;
        }
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
            let dir = args.keep.clone().unwrap_or_else(|| temporary.join("model"));
            if dir.exists() {
                return Err(Error::argument(format!("{} exists already", dir.display())));
            }
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
    let total = tokens.len() as u64 * 3 + 2 + 4 + 4 + REMOVALS as u64;
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
    // On a driver that computes in software it takes minutes, and the demo knows full precision only.
    let software = !device.is_cpu() && device.tuning().class() == AdapterClass::Software;
    if !software && args.precision.precision == PrecisionName::Full {
        report.removal = Some(removal(args, temporary, &mut step)?);
    }
    Ok(())
}

/// Runs of the main job.
const REMOVALS: usize = 3;

/// Runs `efface demo` as a process of its own: the main job from the call to the report.
fn removal(args: &Args, temporary: &Path, step: &mut dyn FnMut()) -> Result<Removal> {
    let program = std::env::current_exe().map_err(|e| Error::Failed(format!("this program is not found: {e}")))?;
    std::fs::create_dir_all(temporary).map_err(|e| Error::writing(temporary, e))?;
    let mut words: Vec<String> = vec!["demo".into()];
    let common = Common { json: false, quiet: false, verbose: false, memory: None, ..args.common.clone() };
    common.repeat(&mut |flag, values| {
        words.push(flag.to_string());
        words.extend_from_slice(values);
    });
    let mut seconds = Vec::new();
    for run in 0..REMOVALS {
        let start = std::time::Instant::now();
        let out = temporary.join(format!("demo-{run}"));
        let child =
            std::process::Command::new(&program).args(&words).args(["--quiet", "--json", "--out"]).arg(out).output();
        let child = child.map_err(|e| Error::Failed(format!("efface demo did not start: {e}")))?;
        if !child.status.success() {
            let said = String::from_utf8_lossy(&child.stderr);
            return Err(Error::Failed(format!("efface demo failed: {}", said.trim())));
        }
        seconds.push(start.elapsed().as_secs_f64());
        step();
    }
    seconds.sort_by(f64::total_cmp);
    let seconds = [seconds[REMOVALS / 2], seconds[0], seconds[REMOVALS - 1]];
    Ok(Removal { command: format!("efface {}", words.join(" ")), seconds })
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
