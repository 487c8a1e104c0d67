//! What commands read: a checkpoint with its model and tokenizer, and records as samples.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use efface::checkpoint::Checkpoint;
use efface::data::{Dataset, Encoder, ReadOptions, Relations, TextEncoder, read_dataset};
use efface::device::Device;
use efface::model::Model;
use efface::model::batch::Tokens;
use efface::stream::{Labels, Pass, PassOptions};
use efface::{Error, Result};

use super::common::Common;

/// How records become samples.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Records")]
pub struct Reading {
    /// Cut samples that are longer than the model's context instead of refusing them.
    #[arg(long)]
    pub truncate: bool,
    /// Add the end token to completions, and to answers that no chat template writes.
    #[arg(long)]
    pub eos: bool,
    /// How a question and its answer are written instead of the chat template, with {question} and {answer}.
    #[arg(long, value_name = "TEXT")]
    pub qa_template: Option<String>,
    /// The system turn before a question that the chat template writes.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Phrasings of relations: {"relation": ["[X] ... [Y]", ...]}, or JSON Lines with a "pattern" each.
    #[arg(long, value_name = "FILE")]
    pub relations: Vec<PathBuf>,
}

/// A checkpoint, opened and held against its config.
pub struct Input {
    /// The checkpoint.
    pub checkpoint: Arc<Checkpoint>,
    /// Its model.
    pub model: Arc<Model>,
    encoder: std::result::Result<Option<TextEncoder>, Error>,
}

impl Input {
    /// Opens the checkpoint in `directory`.
    ///
    /// # Errors
    /// When it is none, or none that efface can compute.
    pub fn open(directory: &Path) -> Result<Self> {
        let checkpoint = Arc::new(Checkpoint::open(directory)?);
        let model = Arc::new(Model::of(&checkpoint)?);
        Ok(Input { checkpoint, model, encoder: TextEncoder::open(directory) })
    }

    /// Reads records as samples. A tokenizer that cannot be read matters only if a record needs it.
    ///
    /// # Errors
    /// When a file cannot be read or a record is wrong.
    pub fn dataset(self, paths: &[PathBuf], reading: &Reading) -> Result<(Self, Dataset)> {
        let options = self.options(reading)?;
        let encoder = self.encoder.as_ref().ok().and_then(Option::as_ref).map(|encoder| encoder as &dyn Encoder);
        match (read_dataset(paths, encoder, &options), self.encoder) {
            (Ok(dataset), encoder) => Ok((Input { encoder, ..self }, dataset)),
            (Err(_), Err(tokenizer)) => Err(tokenizer),
            (Err(error), Ok(_)) => Err(error),
        }
    }

    fn options(&self, reading: &Reading) -> Result<ReadOptions> {
        let mut relations = Relations::default();
        for path in &reading.relations {
            relations.read(path)?;
        }
        let (truncate, eos) = (reading.truncate, reading.eos);
        let (qa_template, system) = (reading.qa_template.clone(), reading.system.clone());
        let limits = ReadOptions::new(self.model.config.vocabulary, self.model.config.context);
        Ok(ReadOptions { truncate, eos, qa_template, system, relations, ..limits })
    }

    /// Passes over the checkpoint on `device`. `host_memory` is in bytes, where it is not what the flags say.
    ///
    /// # Errors
    /// When a tensor holds numbers that are not finite.
    pub fn pass(&self, device: &Device, common: &Common, host_memory: Option<u64>, labels: Labels) -> Result<Pass> {
        let host_memory = host_memory.or(common.host_memory);
        let options = PassOptions { host_memory, labels, ..PassOptions::default() };
        Pass::new(device, self.model.clone(), self.checkpoint.clone(), options)
    }
}

/// Samples as the engine takes them.
pub fn tokens(dataset: &Dataset) -> Vec<Arc<Tokens>> {
    let one = |(number, sample): (usize, &efface::data::Sample)| {
        Arc::new(Tokens::new(&sample.ids, &sample.labels, number as u32))
    };
    dataset.samples.iter().enumerate().map(one).collect()
}
