//! What the Fisher diagonal costs: the fused importance product beside the plain one of the same size, and whole passes over
//! the demo's model beside the plain backward pass.
//!
//!     cargo bench --bench fisher
//!
//! Medians of several runs; ratios are between neighbours of one run, so that a busy machine hurts them less.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use efface::checkpoint::Checkpoint;
use efface::data::{ReadOptions, TextEncoder, read_dataset};
use efface::device::Device;
use efface::kernels::linear::{matmul_nt, weight_importance};
use efface::kernels::{Accumulate, Matrix, Segments, Window};
use efface::model::Model;
use efface::model::batch::Tokens;
use efface::random::Random;
use efface::stream::{Pass, PassOptions};
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::importance::ImportanceSink;
use efface::unlearn::store::MemoryStore;
use efface::{Element, Result};

const RUNS: usize = 7;

fn main() -> Result<()> {
    let device = Device::cpu(u64::MAX);
    println!("{}\n", device.name());
    println!("product                        plain GFLOP/s   fused GFLOP/s   fused / plain time");
    // A feed-forward and an attention projection of SmolLM2-135M; samples of 64 tokens, and of 16.
    for (rows, columns, units, tokens) in [(1536, 576, 16, 64), (576, 576, 16, 64), (1536, 576, 64, 16)] {
        product(&device, rows, columns, units, tokens)?;
    }
    println!("\ndemo model, 160 samples        seconds");
    passes(&device)
}

/// Median seconds of a piece of work.
fn seconds(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

fn product(device: &Device, rows: usize, columns: usize, units: usize, tokens: usize) -> Result<()> {
    let mut random = Random::new(1, "values");
    let mut values =
        |count: usize| -> Vec<f32> { (0..count).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect() };
    let all = units * tokens;
    let (delta, activation) = (device.upload_new(&values(all * rows))?, device.upload_new(&values(all * columns))?);
    let weights = device.upload_new(&values(rows * columns))?;
    let importance = device.allocate((rows * columns * 4) as u64)?;
    let out = device.allocate((all * rows * 4) as u64)?;
    let offsets: Vec<u32> = (0..=units).map(|unit| (unit * tokens) as u32).collect();
    let boundaries = device.upload_new(&offsets)?;
    let matrix = Matrix { buffer: &weights, element: Element::F32, rows, columns };
    let plain = seconds(|| {
        matmul_nt::run(device, all, Window::at(&activation, columns, 0), matrix, Window::at(&out, rows, 0), false)
    })?;
    let segments = Segments::new(&boundaries, &offsets);
    let (left, right) = (Window::at(&delta, rows, 0), Window::at(&activation, columns, 0));
    let fused = seconds(|| {
        weight_importance::run(device, Accumulate::Square, segments, left, right, rows, columns, &importance)
    })?;
    let operations = 2.0 * (all * rows * columns) as f64 / 1e9;
    let shape = format!("{rows} x {columns}, {units} x {tokens} tokens");
    println!("{shape:30} {:13.1}   {:13.1}   {:18.2}", operations / plain, operations / fused, fused / plain);
    Ok(())
}

fn passes(device: &Device) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let checkpoint = Arc::new(Checkpoint::open(&root.join("model"))?);
    let model = Arc::new(Model::of(&checkpoint)?);
    let encoder = TextEncoder::open(root.join("model"))?;
    let options = ReadOptions::new(model.config.vocabulary, model.config.context);
    let encoder = encoder.as_ref().map(|encoder| encoder as &dyn efface::data::Encoder);
    let data = read_dataset(&[root.join("data/forget.jsonl")], encoder, &options)?;
    let tokens = |(i, s): (usize, &efface::data::Sample)| Arc::new(Tokens::new(&s.ids, &s.labels, i as u32));
    let samples: Vec<Arc<Tokens>> = data.samples.iter().enumerate().map(tokens).collect();
    let pass = Pass::new(device, model.clone(), checkpoint, PassOptions::default())?;
    let units = Estimator::Sample.units(&samples, Loss::Mean, BatchWeight::Samples);
    let backward = |sums: Vec<Accumulate>, wanted: bool| {
        seconds(|| {
            let mut store = MemoryStore::new(&model);
            let wanted = vec![wanted; model.parameters.len()];
            let mut sink = ImportanceSink::new(&model, sums.clone(), &mut store).only(wanted);
            pass.gradients(&units, &mut sink, &|_, _| {}).map(drop)
        })
    };
    let forward = seconds(|| pass.losses(&samples, &|_, _| {}).map(drop))?;
    let flow = backward(vec![Accumulate::Square], false)?;
    let sum = backward(vec![Accumulate::Sum], true)?;
    let fisher = backward(vec![Accumulate::Square], true)?;
    for (what, seconds) in [
        ("forward", forward),
        ("... and backward, no weight", flow),
        ("... and summed gradient", sum),
        ("... and Fisher", fisher),
    ] {
        println!("{what:30} {seconds:7.4}");
    }
    println!("Fisher / summed gradient       {:7.2}", fisher / sum);
    Ok(())
}
