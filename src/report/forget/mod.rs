//! Everything that a `forget` run has to say, as plain data, and the ways it is said.
//!
//! [`ForgetReport`] is filled in by the command; [`Verdict`] turns its figures into answers; [`render_html`],
//! [`render_text`] and [`render_json`] write it for a browser, a terminal and a program.

mod forms;
mod heads;
mod page;
mod pictures;
mod redact;
mod redirection;
mod side;
mod summary;
mod training;
mod verdict;

pub use page::render_html;
pub use redirection::{Redirected, RedirectedLayer};
pub use summary::render_text;
pub use verdict::{Answer, Finding, Verdict};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::neighbours::Neighbours;
use super::number;
use super::scores::{FormScore, LeakMatrix, Scores};

/// What a `forget` run did, to what, with what effect.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ForgetReport {
    /// The version of efface.
    pub version: String,
    /// The command and its arguments.
    pub command_line: Vec<String>,
    /// Every setting of the run, those that were not given included.
    pub settings: Map<String, Value>,
    /// The seed of whatever was drawn at random.
    pub seed: u64,
    /// The model before and after.
    pub model: Model,
    /// The files that were read.
    pub data: Vec<DataFile>,
    /// How the weights were chosen and changed.
    pub method: Method,
    /// What the removal cost on held-out retain samples; none if it was not measured.
    pub guard: Option<UtilityGuard>,
    /// The shares that the search tried, in the order tried.
    pub search: Vec<SearchPoint>,
    /// The points that a training, and the repair after it, were judged at, in their order.
    #[serde(default)]
    pub training: Vec<TrainingPoint>,
    /// The attention heads that were tried, where heads were chosen, in their order.
    #[serde(default)]
    pub heads: Vec<HeadPoint>,
    /// What a redirection was made of, where names were redirected.
    #[serde(default)]
    pub redirected: Option<Redirected>,
    /// What the forms of the forget set agree on, where they were measured one by one.
    #[serde(default)]
    pub form_overlap: Option<FormOverlap>,
    /// How many weights differ, for each layer and kind of tensor.
    pub changed: Vec<ChangedWeights>,
    /// How the importance ratio is distributed.
    pub log_ratio: Option<LogRatioHistogram>,
    /// The probes' results for each file and form.
    pub probes: Vec<ProbeResult>,
    /// The headline: form diversity and accuracy.
    #[serde(default)]
    pub scores: Scores,
    /// What became of what the old model knew, in each form: the run's line of a leak matrix.
    #[serde(default)]
    pub forms: Vec<FormScore>,
    /// What became of the facts that are close to those to be forgotten.
    #[serde(default)]
    pub neighbours: Vec<Neighbours>,
    /// What models leak that forgot in one form alone, where some were made: a line each.
    #[serde(default)]
    pub leak: LeakMatrix,
    /// A few questions with the answers before and after.
    pub examples: Vec<Example>,
    /// How long the phases took, in order.
    pub phases: Vec<PhaseTime>,
    /// What the run computed on, and the memory it took.
    pub device: DeviceUse,
    /// What was written, and where.
    pub outputs: Vec<OutputFile>,
    /// What a reader must know beyond the figures. Quote no texts of the data here, except those of `examples`:
    /// redaction cannot know them.
    pub warnings: Vec<String>,
    /// Whether texts were replaced by hashes.
    pub redacted: bool,
}

/// The model that was edited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The checkpoint that was read.
    pub path: String,
    /// The hash of its weights.
    pub sha256_before: String,
    /// The hash of the edited weights; none if no checkpoint was written.
    pub sha256_after: Option<String>,
    /// The architecture's family.
    pub family: String,
    /// How many parameters it has, a tied one counted once.
    pub parameters: u64,
}

/// What a file, or the probes in it, stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// To be forgotten.
    Forget,
    /// To be kept.
    Retain,
    /// Neither named to be forgotten nor used to protect: to be kept as well.
    Other,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Where it lies.
    pub path: String,
    /// What it was used for: `forget`, `retain`, `probes`, ...
    pub used_for: String,
    /// The hash of its bytes.
    pub sha256: String,
    /// How many records it holds.
    pub records: u64,
    /// How many samples they make.
    pub samples: u64,
    /// How many tokens those have.
    pub tokens: u64,
}

/// The method with the figures that it settled on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// Its name on the command line.
    pub name: String,
    /// A weight is selected where F_forget / F_retain exceeds this (α).
    #[serde(with = "number::option")]
    pub threshold: Option<f64>,
    /// The strength of dampening (λ).
    #[serde(with = "number::option")]
    pub lambda: Option<f64>,
    /// How many weights were selected.
    pub selected: u64,
    /// The selected share of the weights that could be selected.
    #[serde(with = "number")]
    pub selected_share: f64,
}

/// The loss on held-out retain samples, which must not rise by more than a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UtilityGuard {
    /// How many samples, none of which took part in measuring importance.
    pub held_out_samples: u64,
    /// Loss of the old model, in nats: every sample's mean over its targets, every sample alike.
    #[serde(with = "number")]
    pub loss_before: f64,
    /// That of the edited model.
    #[serde(with = "number")]
    pub loss_after: f64,
    /// The largest rise that is accepted: 0.02 is 2 %.
    #[serde(with = "number")]
    pub limit: f64,
    /// Whether the result was accepted.
    pub accepted: bool,
}

impl UtilityGuard {
    /// The rise of the loss, relative to what it was, or to one nat where it was less.
    pub fn rise(&self) -> f64 {
        (self.loss_after - self.loss_before) / self.loss_before.max(1.0)
    }
}

/// A step of the search for the share to select.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SearchPoint {
    /// The selected share of weights.
    #[serde(with = "number")]
    pub share: f64,
    /// The rise of the held-out loss with it, as [`UtilityGuard::rise`].
    #[serde(with = "number")]
    pub loss_rise: f64,
}

/// An attention head that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeadPoint {
    /// The round, from 1.
    pub round: u64,
    /// The layer, from 0.
    pub layer: u32,
    /// The head, from 0.
    pub head: u32,
    /// Rise of the loss on the forget set with this head and those chosen before pulled, in nats.
    #[serde(with = "number")]
    pub forget_rise: f64,
    /// The same on the retain set.
    #[serde(with = "number")]
    pub retain_rise: f64,
    /// The first less the weighted second.
    #[serde(with = "number")]
    pub score: f64,
    /// Whether it was chosen.
    pub taken: bool,
}

/// A point at which a training was judged by the samples held out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrainingPoint {
    /// Whether it belongs to the repair.
    pub repair: bool,
    /// The learning rate.
    #[serde(with = "number")]
    pub learning_rate: f64,
    /// After so many steps.
    pub step: u64,
    /// The share of a change that is taken, or a multiple of a task vector.
    #[serde(default, with = "number::option")]
    pub scale: Option<f64>,
    /// The ridge at the keys of a redirection that move, where it is searched.
    #[serde(default, with = "number::option")]
    pub ridge: Option<f64>,
    /// The share that is left of the probability of what is to be forgotten.
    #[serde(with = "number")]
    pub kept: f64,
    /// The rise of the held-out loss, as [`UtilityGuard::rise`].
    #[serde(with = "number")]
    pub loss_rise: f64,
    /// Whether it was taken.
    pub taken: bool,
}

/// How far the weights that each form would choose by itself are the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FormOverlap {
    /// How the forms' importances became one: `mean`, `geomean`, `min`, `quorum:K`.
    pub combine: String,
    /// The forms.
    pub forms: Vec<String>,
    /// How many weights each form's own mask holds, at the threshold that was chosen.
    pub selected: Vec<u64>,
    /// Jaccard's index of two forms' masks, |A ∩ B| / |A ∪ B|; none where both are empty.
    pub jaccard: Vec<Vec<Option<f64>>>,
    /// Its mean over all pairs of two forms.
    pub mean: Option<f64>,
}

/// The weights that differ in one tensor, or in those of one kind in one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedWeights {
    /// The layer; none for tensors outside the layers.
    pub layer: Option<u32>,
    /// The kind of tensor, as `self_attn.q_proj`; outside the layers its name.
    pub kind: String,
    /// How many weights differ in the stored precision.
    pub changed: u64,
    /// How many there are.
    pub total: u64,
}

/// How log10(F_forget / F_retain) is distributed over the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogRatioHistogram {
    /// The lower edge of each bin, ascending; the first may be -∞.
    #[serde(with = "number::list")]
    pub lower_edges: Vec<f64>,
    /// How many weights lie in each bin.
    pub counts: Vec<u64>,
}

/// A figure before and after, with confidence intervals where they were computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Of the old model.
    #[serde(with = "number")]
    pub before: f64,
    /// Of the edited model.
    #[serde(with = "number")]
    pub after: f64,
    /// The interval around `before`.
    #[serde(default, with = "number::interval", skip_serializing_if = "Option::is_none")]
    pub before_interval: Option<[f64; 2]>,
    /// The interval around `after`.
    #[serde(default, with = "number::interval", skip_serializing_if = "Option::is_none")]
    pub after_interval: Option<[f64; 2]>,
}

impl Change {
    /// A change without intervals.
    pub fn new(before: f64, after: f64) -> Self {
        Change { before, after, before_interval: None, after_interval: None }
    }
}

/// The results of the probes of one form in one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The file with the probes.
    pub file: String,
    /// The form of question.
    pub form: String,
    /// What the probes stand for.
    pub role: Role,
    /// Whether neither this form nor these wordings occur in the forget set.
    pub held_out: bool,
    /// How many probes.
    pub probes: u64,
    /// The mean probability of the gold answer (exp of its mean log-probability per token).
    pub probability: Change,
    /// The share of probes that greedy decoding answers exactly.
    pub exact_match: Option<Change>,
    /// The mean ROUGE-L recall of the greedy answers.
    pub rouge_l: Option<Change>,
}

/// A probe with what the model said before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The form of question.
    pub form: String,
    /// What the probe stands for.
    pub role: Role,
    /// The question.
    pub question: String,
    /// The gold answer.
    pub gold: String,
    /// The old model's answer.
    pub before: String,
    /// The edited model's answer.
    pub after: String,
}

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// What was done.
    pub phase: String,
    /// For how long.
    #[serde(with = "number")]
    pub seconds: f64,
}

/// What a run computed on. Sizes are in bytes; a missing budget is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUse {
    /// The device's name.
    pub name: String,
    /// The budget of device memory.
    pub memory_budget: Option<u64>,
    /// The most device memory that was in use.
    pub memory_peak: Option<u64>,
    /// The budget of host memory.
    pub host_memory_budget: Option<u64>,
    /// The most host memory that was in use.
    pub host_memory_peak: Option<u64>,
}

/// A file or directory that the run wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// What it is: `edited checkpoint`, `patch (reversible, secret)`, `report`.
    pub what: String,
    /// Where it lies.
    pub path: String,
}

impl ForgetReport {
    /// How many weights differ, and how many were looked at.
    pub fn changed_total(&self) -> (u64, u64) {
        let add = |(changed, total): (u64, u64), c: &ChangedWeights| {
            (changed.saturating_add(c.changed), total.saturating_add(c.total))
        };
        self.changed.iter().fold((0, 0), add)
    }
}

/// The report as JSON, with the verdict in front. It reads back as a [`ForgetReport`], a figure perhaps
/// without its last bit.
pub fn render_json(report: &ForgetReport) -> String {
    #[derive(Serialize)]
    struct WithVerdict<'a> {
        verdict: Verdict,
        #[serde(flatten)]
        report: &'a ForgetReport,
    }
    super::to_json(&WithVerdict { verdict: Verdict::of(report), report })
}
