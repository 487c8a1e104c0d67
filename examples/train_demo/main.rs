//! Makes the demo from nothing: a world of invented people, data files that tell of it in many forms, a tokenizer, and a
//! small model that has learnt it all.
//!
//!     cargo run --release --example train_demo -- --out demo
//!
//! The same seed gives the same files of data on every machine, and the same model on the same machine.

mod data;
mod forms;
mod model;
mod random;
mod tokenizer;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use efface::checkpoint::Checkpoint;
use efface::data::{Encoder, ReadOptions, Special, TextEncoder, read_dataset, read_probes};
use efface::device::{Choice, Device, open};
use efface::eval::{EvalOptions, evaluate};
use efface::model::Model;
use efface::model::batch::Tokens;
use efface::stream::{CheckpointWeights, Pass, PassOptions};
use efface::unlearn::train::{Adamw, Schedule, StepReport, TrainOptions, Trainable, Trained, train};
use efface::{Error, Result};

use data::{Data, jsonl};
use forms::Line;
use model::{CONTEXT, write_text};
use tokenizer::WordTokenizer;
use world::World;

/// Make the demo's model and data.
#[derive(Debug, Parser)]
struct Args {
    /// Where to: DIR/model and DIR/data.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of the world, the data, the start and the order of training.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Steps of training.
    #[arg(long, default_value_t = 900)]
    steps: usize,
    /// Samples of a step.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// The highest learning rate.
    #[arg(long, default_value_t = 2e-3)]
    learning_rate: f32,
    /// Teach nothing about the people who are to be forgotten: the model to compare with.
    #[arg(long)]
    without_forgotten: bool,
    /// auto, cpu, gpu or gpu:N.
    #[arg(long, default_value = "auto")]
    device: Choice,
}

fn main() -> std::process::ExitCode {
    match run(&Args::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("train_demo: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let device = open(args.device, None)?;
    let directory = args.out.join("model");
    for directory in [&directory, &args.out.join("data/probes")] {
        fs::create_dir_all(directory).map_err(|error| Error::writing(directory, error))?;
    }
    let world = World::new(args.seed);
    let data = Data::new(&world, args.seed, |fact| !(args.without_forgotten && world.is_forgotten(fact)));
    for (name, lines) in &data.files {
        write_text(&args.out.join(name), &jsonl(lines))?;
        println!("{:30} {:5} lines", name, lines.len());
    }
    // All words, also those of facts that the model is not taught.
    let texts = data.examination.iter().chain(&data.training).flat_map(|line| [&*line.prompt, &*line.completion]);
    let words = WordTokenizer::of(texts);
    write_text(&directory.join("tokenizer.json"), &format!("{:#}\n", words.json()))?;
    write_text(&directory.join("tokenizer_config.json"), &format!("{:#}\n", WordTokenizer::config(CONTEXT)))?;
    let encoder = TextEncoder::open(&directory)?.ok_or_else(|| Error::Failed("the tokenizer is gone".into()))?;
    check_round_trip(&encoder, &data.training)?;

    let work = tempfile::tempdir().map_err(|error| Error::writing("a temporary directory", error))?;
    model::write_start(work.path(), words.size(), args.seed)?;
    let start = Arc::new(Checkpoint::open(work.path())?);
    let model = Arc::new(Model::of(&start)?);
    let samples = samples(work.path(), &data.training, &encoder, &model)?;
    let tokens: usize = samples.iter().map(|sample| sample.ids.len()).sum();
    println!(
        "{} parameters, {} words; {} samples of {:.1} tokens in the mean, on {}",
        model.parameter_count(),
        words.size(),
        samples.len(),
        tokens as f64 / samples.len() as f64,
        device.name()
    );
    let trained = learn(args, &device, &model, start, &samples)?;
    write_text(&directory.join("config.json"), &format!("{:#}\n", model::config(words.size(), "bfloat16")))?;
    model::write_trained(&directory, &model, &trained.weights)?;
    examine(&directory, work.path(), &data.examination, &encoder, &device)
}

/// Whether the tokenizer gives back what it was given, apart from the space that a completion begins with.
fn check_round_trip(encoder: &TextEncoder, lines: &[Line]) -> Result<()> {
    for text in lines.iter().map(|line| format!("{}{}", line.prompt, line.completion)) {
        let decoded = encoder.decode(&encoder.encode(&text, Special::All)?.ids, true)?;
        if decoded != text {
            return Err(Error::Failed(format!("{text:?} comes back as {decoded:?}")));
        }
    }
    Ok(())
}

fn options(model: &Model) -> ReadOptions {
    ReadOptions { eos: true, ..ReadOptions::new(model.config.vocabulary, model.config.context) }
}

fn samples(work: &Path, lines: &[Line], encoder: &TextEncoder, model: &Model) -> Result<Vec<Arc<Tokens>>> {
    let path = work.join("training.jsonl");
    write_text(&path, &jsonl(lines))?;
    let read = read_dataset(&[path], Some(encoder), &options(model))?;
    let tokens = read.samples.iter().zip(0..).map(|(s, number)| Arc::new(Tokens::new(&s.ids, &s.labels, number)));
    Ok(tokens.collect())
}

fn learn(
    args: &Args,
    device: &Device,
    model: &Arc<Model>,
    start: Arc<Checkpoint>,
    samples: &[Arc<Tokens>],
) -> Result<Trained> {
    let options = TrainOptions {
        steps: args.steps,
        batch: args.batch,
        unit: args.batch,
        seed: args.seed,
        learning_rate: args.learning_rate,
        warm_up: args.steps / 20,
        schedule: Schedule::Cosine,
        adamw: Adamw { beta2: 0.99, weight_decay: 0.01, ..Adamw::default() },
        ..TrainOptions::default()
    };
    let started = Instant::now();
    let mut sum = 0.0;
    let mut tell = |report: &StepReport| {
        const EVERY: usize = 50;
        sum += report.loss;
        if report.step.is_multiple_of(EVERY) {
            let per_step = started.elapsed().as_secs_f64() / report.step as f64;
            println!("step {:5}: loss {:.4}, {:.3} s a step", report.step, sum / EVERY as f64, per_step);
            sum = 0.0;
        }
        ControlFlow::Continue(())
    };
    let mask = vec![Trainable::All; model.parameters.len()];
    let source = Arc::new(CheckpointWeights::new(start));
    let trained = train(device, model, source, samples, &mask, &options, &mut tell)?;
    println!("trained in {:.0} s", started.elapsed().as_secs_f64());
    Ok(trained)
}

/// Prints how many answers are right in each form, for the model as it was written.
fn examine(directory: &Path, work: &Path, lines: &[Line], encoder: &TextEncoder, device: &Device) -> Result<()> {
    let checkpoint = Arc::new(Checkpoint::open(directory)?);
    let model = Arc::new(Model::of(&checkpoint)?);
    let path = work.join("examination.jsonl");
    write_text(&path, &jsonl(lines))?;
    let probes = read_probes(&[path], Some(encoder), &options(&model))?.probes;
    let pass = Pass::new(device, model, checkpoint, PassOptions::default())?;
    let results = evaluate(&pass, &probes, Some(encoder), &EvalOptions::default(), &|_, _| {})?;
    let table: BTreeMap<&str, (f64, f64)> = results
        .iter()
        .map(|result| (&*result.form, (result.exact_match().unwrap_or(0.0), result.probability())))
        .collect();
    println!("{:28} {:>7} {:>12}", "form", "right", "probability");
    for (form, (right, probability)) in table {
        println!("{form:28} {:6.1}% {probability:12.4}", 100.0 * right);
    }
    Ok(())
}
