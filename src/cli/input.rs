//! What commands read: a checkpoint with its model and tokenizer, and records as samples.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use efface::Result;
use efface::checkpoint::Checkpoint;
use efface::data::forms::{Forms, Refusal, Templates, counted};
use efface::data::{Dataset, Encoder, ProbeSet, ReadOptions, Relations, TextEncoder, read_dataset, read_probes};
use efface::device::Device;
use efface::model::Model;
use efface::model::batch::Tokens;
use efface::stream::{Labels, Pass, PassOptions};

use super::common::Common;
use super::measure::Measure;

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
    /// Tell facts, questions and texts in these forms, separated by commas, or in `all`: statement, question, cloze,
    /// multiple-choice, ... (docs/forms.md). Samples take the phrasings for training, probes those held out.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub forms: Vec<String>,
    /// Forms that are asked only: no sample is made of them.
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "forms")]
    pub hold_out_forms: Vec<String>,
    /// Further templates and wordings, in JSON (docs/forms.md); those that come with efface stay.
    #[arg(long, value_name = "FILE")]
    pub templates: Vec<PathBuf>,
    /// The share of phrasings that is held out of training.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, requires = "forms")]
    pub hold_out: f64,
    /// The most expressions of a record in each form.
    #[arg(long, value_name = "N", default_value_t = 2, requires = "forms")]
    pub per_form: usize,
    /// Draws which phrasings are held out: the same number gives the same split in every command.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "forms")]
    pub split_seed: u64,
}

impl Reading {
    /// The same, asking in `forms` (none: in all) where it tells in forms.
    pub fn asking(&self, forms: &[String]) -> Self {
        let all = || vec![ALL.to_string()];
        let forms = if forms.is_empty() { all() } else { forms.to_vec() };
        Reading { forms: if self.forms.is_empty() { Vec::new() } else { forms }, ..self.clone() }
    }

    /// How records are read for a model with this vocabulary and context.
    ///
    /// # Errors
    /// When a table of phrasings or a file of templates is wrong, or a form is unknown.
    pub fn options(&self, vocabulary: usize, context: usize) -> Result<ReadOptions> {
        let mut relations = Relations::default();
        for path in &self.relations {
            relations.read(path)?;
        }
        let mut templates = (*Templates::builtin()).clone();
        for path in &self.templates {
            templates.read(path)?;
        }
        let forms = (!self.forms.is_empty()).then(|| {
            templates.use_phrasings(&relations);
            let all = self.forms.iter().any(|form| form == ALL);
            Forms {
                chosen: (!all).then(|| self.forms.clone()),
                hold_out: self.hold_out_forms.clone(),
                share: self.hold_out,
                per_form: self.per_form,
                seed: self.split_seed,
                ..Forms::new(Arc::new(templates))
            }
        });
        let (truncate, eos) = (self.truncate, self.eos);
        let (qa_template, system) = (self.qa_template.clone(), self.system.clone());
        let limits = ReadOptions::new(vocabulary, context);
        Ok(ReadOptions { truncate, eos, qa_template, system, relations, forms, ..limits })
    }

    /// Every setting, as reports name them.
    pub fn settings(&self) -> serde_json::Map<String, serde_json::Value> {
        let settings = serde_json::json!({
            "truncate": self.truncate, "eos": self.eos, "qa_template": self.qa_template, "system": self.system,
            "relations": self.relations, "forms": self.forms, "hold_out_forms": self.hold_out_forms,
            "templates": self.templates, "hold_out": self.hold_out, "per_form": self.per_form,
            "split_seed": self.split_seed,
        });
        settings.as_object().cloned().unwrap_or_default()
    }
}

/// Every form.
const ALL: &str = "all";

/// What was not made of the records, in a sentence for each reason.
pub fn refusals(refused: &[Refusal]) -> Vec<String> {
    let sentence = |(count, first): (usize, &Refusal)| {
        let form = first.form.as_ref().map_or(String::from("a record"), |form| format!("the form {form}"));
        let (path, line) = (first.origin.path.display(), first.origin.line);
        let times = if count == 1 { "once" } else { &format!("{count} times") };
        format!("Left out {times}, {form}: {} (first: {path} line {line}).", first.reason)
    };
    counted(refused).into_iter().map(sentence).collect()
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

    /// The checkpoint's tokenizer, where nothing can be done without.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn required_encoder(&self) -> Result<&dyn Encoder> {
        if self.broken_tokenizer {
            TextEncoder::open(self.checkpoint.dir())?;
        }
        let missing = || efface::Error::file(self.checkpoint.dir(), "", "there is no tokenizer.json");
        self.encoder().ok_or_else(missing)
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
        self.read(reading, |encoder, options| {
            let forms = options.forms.as_ref().map(|forms| forms.probing(forms.chosen.clone()));
            read_probes(paths, encoder, &ReadOptions { forms, ..options.clone() })
        })
    }

    fn read<T>(
        &self,
        reading: &Reading,
        read: impl FnOnce(Option<&dyn Encoder>, &ReadOptions) -> Result<T>,
    ) -> Result<T> {
        let options = reading.options(self.model.config.vocabulary, self.model.config.context)?;
        read(self.encoder(), &options).map_err(|error| match self.broken_tokenizer {
            true => TextEncoder::open(self.checkpoint.dir()).err().unwrap_or(error),
            false => error,
        })
    }

    /// Passes over the checkpoint on `device` that measure importance. `host_memory` is in bytes, where it is not what the flags
    /// say.
    ///
    /// # Errors
    /// When the settings contradict each other, or a tensor holds numbers that are not finite.
    pub fn measuring(
        &self,
        device: &Device,
        common: &Common,
        host_memory: Option<u64>,
        measure: &Measure,
    ) -> Result<Pass> {
        measure.check()?;
        let host_memory = host_memory.or(common.host_memory);
        let (labels, loss) = (measure.labels.labels(common.seed), measure.loss.kind());
        let options = PassOptions { host_memory, labels, loss, ..PassOptions::default() };
        Pass::new(device, self.model.clone(), self.checkpoint.clone(), options)
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
