//! The kernels at a model's shapes and whole passes over it, on the device of `EFFACE_BENCH_DEVICE` (auto, cpu, gpu, gpu:N;
//! the CPU if it is not set): what `efface bench` measures, as the library offers it. Exits with 1 if a result is wrong.
//!
//!     cargo bench --bench kernels
//!     cargo bench --bench kernels -- 'linear/*'
//!
//! Then the products alone: what fusing square and accumulation into the gradient's product costs.

use std::process::ExitCode;

use efface::Result;
use efface::bench::{Bench, JobKind, Measured, Roofs, SHAPES, cases, measure, write_random};
use efface::device::{Choice, Device, open};
use efface::stream::PassOptions;
use efface::unlearn::names::matches;

/// Seconds for each case.
const SECONDS: f64 = 0.1;
/// Tokens in a launch.
const TOKENS: [usize; 2] = [64, 1024];
/// Layers of the model of the passes: enough that its embedding is not most of the work.
const LAYERS: usize = 12;
/// Samples of a pass, and the tokens of each.
const SAMPLES: (usize, usize) = (16, 64);

fn main() -> Result<ExitCode> {
    let device = match std::env::var("EFFACE_BENCH_DEVICE") {
        Ok(name) => open(name.parse::<Choice>()?, None)?,
        Err(_) => Device::cpu(u64::MAX),
    };
    // Cargo adds --bench to what it was given.
    let patterns: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let roofs = Roofs::measure(&device, 0.3)?;
    println!("{}\n{roofs:#?}\n", device.name());
    let chosen = |name: &str| patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, name));
    let mut all = Vec::new();
    for case in cases::all(&[&SHAPES[0]], &TOKENS).iter().filter(|case| chosen(case.kernel)) {
        let measured = measure(&device, case, &roofs, SECONDS, 1)?;
        println!("{}", line(&measured));
        all.push(measured);
        device.free_scratch();
    }
    fusion(&all);
    if patterns.is_empty() {
        passes(&device)?;
    }
    let wrong = all.iter().filter(|measured| !measured.accuracy.passes()).count();
    println!("\n{} cases checked against float64, {wrong} wrong", all.len());
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(measured: &Measured) -> String {
    let share =
        measured.roof.map_or(String::new(), |roof| format!("{:3.0} % of {}", 100.0 * roof.share, roof.by.name()));
    format!(
        "{:28} {:26} {:5} {:10.1} us {:8.1} GB/s {:8.1} GFLOP/s {share:20} {}",
        measured.kernel,
        measured.problem,
        measured.tokens,
        1e6 * measured.timing.median,
        1e-9 * measured.bandwidth(),
        1e-9 * measured.rate(),
        if measured.accuracy.passes() { "PASS" } else { "FAIL" },
    )
}

/// The importance beside the plain product of the same size.
fn fusion(all: &[Measured]) {
    println!("\nimportance / plain product of the same matrix and tokens, in time");
    for fused in all.iter().filter(|measured| measured.kernel == "linear/weight_importance") {
        let same = |other: &&Measured| {
            other.kernel == "linear/matmul_nt"
                && other.tokens == fused.tokens
                && other.problem == format!("{} f32", fused.problem)
        };
        if let Some(plain) = all.iter().find(same) {
            let ratio = fused.timing.median / plain.timing.median;
            println!("{:28} {:5} tokens {ratio:6.2}", fused.problem, fused.tokens);
        }
    }
}

/// Passes over a model of random weights.
fn passes(device: &Device) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("efface-bench-{}", std::process::id()));
    write_random(&SHAPES[0], LAYERS, 1, &directory)?;
    let timed = timed(device, &directory);
    std::fs::remove_dir_all(&directory).map_err(|e| efface::Error::writing(&directory, e))?;
    timed
}

fn timed(device: &Device, directory: &std::path::Path) -> Result<()> {
    let model = Bench::open(directory, 1)?;
    println!("\n{} samples of {} tokens, {LAYERS} layers of {}", SAMPLES.0, SAMPLES.1, SHAPES[0].name);
    let mut seconds = Vec::new();
    for kind in [JobKind::Forward, JobKind::Backward, JobKind::Fisher] {
        let job = model.time(device, kind, SAMPLES, PassOptions::default())?;
        println!("{:28} {:8.4} s {:8.1} GFLOP/s", job.name, job.seconds[0], 1e-9 * job.rate);
        seconds.push(job.seconds[0]);
    }
    println!("Fisher / summed gradient     {:8.2}", seconds[2] / seconds[1]);
    Ok(())
}
