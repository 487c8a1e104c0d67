//! The settings of training: which elements, how many steps of which size, and the optimiser.

use crate::kernels::update::mask_words;
use crate::stream::PassOptions;
use crate::unlearn::estimator::{BatchWeight, Loss};
use crate::{Error, Result};

/// Which elements of a parameter are trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trainable {
    /// None: it is not even visited.
    None,
    /// All.
    All,
    /// Those whose bit is set: bit `i % 32` of word `i / 32` for element `i`, the bits beyond the last element zero.
    Bits(Vec<u32>),
}

impl Trainable {
    /// The mask's words for `count` elements; none where no element is chosen.
    pub(super) fn words(&self, count: usize) -> Result<Option<Vec<u32>>> {
        let full = || (0..mask_words(count)).map(|word| u32::MAX >> (32 - (count - 32 * word).min(32))).collect();
        match self {
            Trainable::None => Ok(None),
            Trainable::All => Ok(Some(full())),
            Trainable::Bits(words) => {
                let full: Vec<u32> = full();
                if words.len() != full.len() || words.iter().zip(&full).any(|(word, full)| word & !full != 0) {
                    let given = words.len();
                    let problem = format!("has {given} words, or bits beyond the {count} elements");
                    return Err(Error::argument(format!("a mask {problem}; right are {} words", full.len())));
                }
                Ok(words.iter().any(|word| *word != 0).then(|| words.clone()))
            }
        }
    }
}

/// The settings of the optimiser that stay the same from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adamw {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Keeps the denominator from zero.
    pub epsilon: f32,
    /// Decay of weights per unit of step size: of matrices and tables, never of vectors (biases, gains of norms).
    pub weight_decay: f32,
    /// The largest norm of the gradient of all chosen elements together; a longer one is scaled down to it.
    pub clip: Option<f32>,
}

impl Default for Adamw {
    fn default() -> Self {
        Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, clip: Some(1.0) }
    }
}

/// How the learning rate falls after warming up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Schedule {
    /// It does not.
    #[default]
    Constant,
    /// Along a line that reaches zero one step after the last.
    Linear,
    /// Along half a cosine that reaches zero one step after the last.
    Cosine,
}

/// How [`train`](super::train) goes.
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions {
    /// Number of steps.
    pub steps: usize,
    /// Samples of a step; at most as many as there are.
    pub batch: usize,
    /// Samples that go through the model together: a batch is cut into units of so many, and a unit is never cut. Large
    /// ones are fast, small ones fit small budgets.
    pub unit: usize,
    /// Seed of the samples' order. Every sample is drawn once before any is drawn again.
    pub seed: u64,
    /// The highest learning rate.
    pub learning_rate: f32,
    /// Steps over which the learning rate rises to it, along a line.
    pub warm_up: usize,
    /// How it falls afterwards.
    pub schedule: Schedule,
    /// The optimiser.
    pub adamw: Adamw,
    /// The loss of a sample.
    pub loss: Loss,
    /// What a sample weighs in its batch.
    pub batch_weight: BatchWeight,
    /// How passes are run.
    pub pass: PassOptions,
}

impl Default for TrainOptions {
    fn default() -> Self {
        TrainOptions {
            steps: 100,
            batch: 32,
            unit: 32,
            seed: 0,
            learning_rate: 1e-4,
            warm_up: 0,
            schedule: Schedule::Constant,
            adamw: Adamw::default(),
            loss: Loss::Mean,
            batch_weight: BatchWeight::Samples,
            pass: PassOptions::default(),
        }
    }
}

impl TrainOptions {
    /// The learning rate of step `t`, from 1 to `steps`.
    pub fn rate(&self, t: usize) -> f32 {
        let peak = f64::from(self.learning_rate);
        if t <= self.warm_up {
            return (peak * t as f64 / self.warm_up as f64) as f32;
        }
        let gone = (t - 1 - self.warm_up) as f64 / (self.steps - self.warm_up) as f64;
        let share = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - gone,
            Schedule::Cosine => (1.0 + (std::f64::consts::PI * gone).cos()) / 2.0,
        };
        (peak * share) as f32
    }

    pub(super) fn check(&self, samples: usize) -> Result<()> {
        let wrong = |problem: &str| Err(Error::argument(format!("training: {problem}")));
        let Adamw { beta1, beta2, epsilon, weight_decay, clip } = self.adamw;
        if samples == 0 || self.batch == 0 || self.unit == 0 {
            return wrong("at least one sample, one sample a batch and one sample a unit are needed");
        }
        if u32::try_from(self.steps).is_err() {
            return wrong("at most 2^32 - 1 steps are possible");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return wrong("the learning rate must be above 0");
        }
        if ![beta1, beta2].iter().all(|beta| (0.0..1.0).contains(beta)) {
            return wrong("the moments' decays must be from 0 to below 1");
        }
        if !(epsilon.is_finite() && epsilon > 0.0 && weight_decay.is_finite() && weight_decay >= 0.0) {
            return wrong("epsilon must be above 0, and the decay of weights 0 or above");
        }
        if clip.is_some_and(|clip| clip.is_nan() || clip <= 0.0) {
            return wrong("the gradient's largest norm must be above 0");
        }
        Ok(())
    }
}
