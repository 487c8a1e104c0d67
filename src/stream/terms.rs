//! What a pass is told and what it tells: units of weighted samples, options, losses, and where it goes on after an interruption.

use std::sync::Arc;

use super::plan::Plan;
use crate::Result;
use crate::model::batch::Tokens;
use crate::model::head::LossKind;

/// Where labels come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Labels {
    /// From the data: the empirical Fisher.
    #[default]
    Data,
    /// Drawn from the model's own distribution at every target position: the true Fisher, by Monte Carlo.
    Model {
        /// Seed of the draws.
        seed: u64,
    },
}

/// How far a pass has come: `done` of `total` steps of about equal length.
pub type Progress<'a> = &'a dyn Fn(u64, u64);

/// A sample within a unit, and the weight of each of its targets' losses.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    /// The sample.
    pub tokens: Arc<Tokens>,
    /// The weight of each target's loss in the unit's loss.
    pub weight: f32,
}

/// Samples that share one gradient.
pub type Unit = Vec<Weighted>;

/// How a pass is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassOptions {
    /// Host memory for waiting activations, in bytes; none: half of what the machine has.
    pub host_memory: Option<u64>,
    /// At most this many units in one launch.
    pub units_per_launch: Option<usize>,
    /// Where labels come from.
    pub labels: Labels,
    /// What gradients are of, where no objective is named.
    pub loss: LossKind,
}

/// The loss of a sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleLoss {
    /// Cross-entropy of each target, in nats, in order.
    pub tokens: Vec<f32>,
}

impl SampleLoss {
    /// Sum over the targets, in nats.
    pub fn sum(&self) -> f64 {
        self.tokens.iter().map(|loss| f64::from(*loss)).sum()
    }

    /// Mean over the targets, in nats.
    pub fn mean(&self) -> f64 {
        self.sum() / self.tokens.len() as f64
    }
}

/// What a pass tells beside what its sink received.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// Loss of every sample, in order (of units, then of samples in them).
    pub losses: Vec<SampleLoss>,
    /// The plan that was followed.
    pub plan: Plan,
}

/// Where an interrupted pass goes on: after the visit of `stage` in `group`.
#[derive(Clone, Debug, Default)]
pub struct ResumePoint {
    /// The group that was being processed.
    pub group: usize,
    /// The last stage whose backward visit is complete.
    pub stage: usize,
    /// Each chunk's delta at that stage's input.
    pub deltas: Vec<Vec<f32>>,
    /// Each chunk's rows of the tied head's gradient; empty where not tied.
    pub head_rows: Vec<Vec<f32>>,
    /// Losses of all samples up to the end of this group.
    pub losses: Vec<SampleLoss>,
}

/// Remembers how far a pass has come, so that it can go on after an interruption.
pub trait Journal {
    /// Whether a visit that is being recorded should be remembered. The last one of a group always is: what a sink stored in
    /// one group may be gone when the next but one stores its own.
    fn is_due(&self) -> bool {
        true
    }

    /// Called when a stage's backward visit is complete and its importance is stored, if it was due. `point` makes what
    /// resuming needs.
    ///
    /// # Errors
    /// When it cannot be written.
    fn visited(&mut self, point: &mut dyn FnMut() -> Result<ResumePoint>) -> Result<()>;
}
