//! What commands read: a checkpoint with its model and tokenizer, and records as samples.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use efface::Result;
use efface::checkpoint::Checkpoint;
use efface::data::{Dataset, Encoder, ProbeSet, ReadOptions, Relations, TextEncoder, read_dataset, read_probes};
use efface::device::Device;
use efface::model::Model;
use efface::model::batch::Tokens;
use efface::stream::{Labels, Pass, PassOptions};

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
    encoder: Option<TextEncoder>,
    /// Whether there is a tokenizer that cannot be read, which matters only if a record needs it.
    broken_tokenizer: bool,
}

impl Input {
    /// Opens the checkpoint in `directory`.
    ///
    /// # Errors
    /// When it is none, or none that efface can compute.
    pub fn open(directory: &Path) -> Result<Self> {
        let checkpoint = Arc::new(Checkpoint::open(directory)?);
        let model = Arc::new(Model::of(&checkpoint)?);
        let encoder = TextEncoder::open(directory);
        let broken_tokenizer = encoder.is_err();
        Ok(Input { checkpoint, model, encoder: encoder.ok().flatten(), broken_tokenizer })
    }

    /// Hashes the checkpoint on a thread of its own; whoever asks for the hash before it is done waits for it.
    pub fn hash_ahead(&self) {
        let checkpoint = self.checkpoint.clone();
        std::thread::spawn(move || {
            checkpoint.sha256();
        });
    }

    /// The checkpoint's tokenizer and chat template, where it has them.
    pub fn encoder(&self) -> Option<&dyn Encoder> {
        self.encoder.as_ref().map(|encoder| encoder as &dyn Encoder)
    }

    /// Reads records as samples.
    ///
    /// # Errors
    /// When a file cannot be read or a record is wrong.
    pub fn dataset(&self, paths: &[PathBuf], reading: &Reading) -> Result<Dataset> {
        self.read(reading, |encoder, options| read_dataset(paths, encoder, options))
    }

    /// Reads records as probes.
    ///
    /// # Errors
    /// As [`Input::dataset`].
    pub fn probes(&self, paths: &[PathBuf], reading: &Reading) -> Result<ProbeSet> {
        self.read(reading, |encoder, options| read_probes(paths, encoder, options))
    }

    fn read<T>(
        &self,
        reading: &Reading,
        read: impl FnOnce(Option<&dyn Encoder>, &ReadOptions) -> Result<T>,
    ) -> Result<T> {
        read(self.encoder(), &self.options(reading)?).map_err(|error| match self.broken_tokenizer {
            true => TextEncoder::open(self.checkpoint.dir()).err().unwrap_or(error),
            false => error,
        })
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
