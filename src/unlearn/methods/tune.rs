//! Training that removes: every step takes a batch of the forget set, whose loss is the method's, and a batch of the retain
//! set, which is to be predicted as well as before.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::device::Device;
use crate::model::Model;
use crate::model::batch::Tokens;
use crate::model::weights::WeightSource;
use crate::random::Random;
use crate::stream::{OldStates, Pass, PassOptions, PerSample, Progress, SampleObjective, Unit, Weighted};
use crate::unlearn::train::order::Order;
use crate::unlearn::train::{Adamw, StepReport, Trainable, TrainedWeights, Training};
use crate::{Error, Result};

/// Samples that go through the model together. Fixed, so that a budget does not change the sums.
const UNIT: usize = 8;

/// What is done to the forget set's samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Gradient difference: their loss rises, without an end.
    Difference,
    /// Negative preference optimisation, against what the old model makes of them.
    Npo {
        /// How fast it fades.
        beta: f64,
    },
    /// The same without the old model.
    SimNpo {
        /// How fast it fades.
        beta: f64,
        /// The mean loss at which it has faded to a half.
        delta: f64,
    },
    /// They are learned: other answers, or, for a task vector, the right ones.
    Learn,
}

impl Goal {
    fn objective(self, reference: f64) -> SampleObjective {
        match self {
            Goal::Difference => SampleObjective::Ascent,
            Goal::Npo { beta } => SampleObjective::Npo { beta, reference },
            Goal::SimNpo { beta, delta } => SampleObjective::SimNpo { beta, delta },
            Goal::Learn => SampleObjective::Mean,
        }
    }
}

/// What is wanted of the retain set's samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainLoss {
    /// That they are predicted: their mean loss.
    #[default]
    CrossEntropy,
    /// That the model's distributions stay what they were: the mean over targets of KL(old ‖ new). The final norm and the head
    /// must not be trained.
    Divergence,
}

/// The samples of a training.
#[derive(Clone, Debug)]
pub struct Sets {
    /// What is to be forgotten, or what is to be said instead.
    pub forget: Vec<Arc<Tokens>>,
    /// What is to be kept.
    pub retain: Vec<Arc<Tokens>>,
    /// For each forget sample the sum of its losses in the old model, where the goal asks for it; else empty.
    references: Vec<f64>,
    /// What the old model's distributions are made of, for the retain samples that will be drawn, by their place; empty where
    /// these are predicted.
    old: HashMap<usize, Arc<OldStates>>,
}

impl Sets {
    /// The samples, with what the old model makes of them if `options` ask for it: a number for each forget sample, and for
    /// each retain sample that will be drawn 4 bytes for each token and unit of the hidden state.
    ///
    /// # Errors
    /// When a set is empty or the pass fails.
    pub fn new(
        forget: Vec<Arc<Tokens>>,
        retain: Vec<Arc<Tokens>>,
        options: &TuneOptions,
        old: &Pass,
        progress: Progress<'_>,
    ) -> Result<Self> {
        if forget.is_empty() || retain.is_empty() {
            return Err(Error::argument("training takes a sample of each set"));
        }
        let references = match options.goal {
            Goal::Npo { .. } => old.losses(&forget, progress)?.iter().map(|loss| loss.sum()).collect(),
            _ => Vec::new(),
        };
        let mut states = HashMap::new();
        if options.retain_loss == RetainLoss::Divergence {
            let mut drawn: Vec<usize> = retain_order(retain.len(), options.seed)
                .take(options.steps.saturating_mul(options.batch.min(retain.len())))
                .collect();
            drawn.sort_unstable();
            drawn.dedup();
            let samples: Vec<Arc<Tokens>> = drawn.iter().map(|i| retain[*i].clone()).collect();
            states.extend(drawn.into_iter().zip(old.states(&samples, progress)?.into_iter().map(Arc::new)));
        }
        Ok(Sets { forget, retain, references, old: states })
    }
}

/// How a removal is trained.
#[derive(Clone, Copy, Debug)]
pub struct TuneOptions {
    /// What is done to the forget set.
    pub goal: Goal,
    /// Number of steps.
    pub steps: usize,
    /// Samples of each set in a step; at most as many as there are.
    pub batch: usize,
    /// The learning rate.
    pub learning_rate: f32,
    /// What the retain set's loss counts for, against the forget set's.
    pub retain_weight: f64,
    /// What is wanted of the retain set.
    pub retain_loss: RetainLoss,
    /// Seed of the samples' orders.
    pub seed: u64,
    /// How passes are run.
    pub pass: PassOptions,
}

impl TuneOptions {
    fn check(&self) -> Result<()> {
        let wrong = |problem: &str| Err(Error::argument(format!("training: {problem}")));
        if self.batch == 0 || self.steps == 0 || u32::try_from(self.steps).is_err() {
            return wrong("at least one sample a batch and one step are needed, and fewer than 2^32 steps");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return wrong("the learning rate must be above 0");
        }
        if !(self.retain_weight.is_finite() && self.retain_weight >= 0.0) {
            return wrong("the retain set's weight must be 0 or above");
        }
        match self.goal {
            Goal::Npo { beta } | Goal::SimNpo { beta, .. } if !(beta.is_finite() && beta > 0.0) => {
                wrong("beta must be above 0")
            }
            Goal::SimNpo { delta, .. } if !delta.is_finite() => wrong("delta must be a number"),
            _ => Ok(()),
        }
    }
}

/// What is told of every step of a training, with the weights as they are then; it may end the training there.
pub type AfterStep<'a> = dyn FnMut(&StepReport, &Arc<TrainedWeights>) -> Result<ControlFlow<()>> + 'a;

/// Trains the elements that `mask` chooses. `after` is told of every step, with the weights as they are then, and may end the
/// training there.
///
/// # Errors
/// When an option or the mask is wrong, the device failed, or loss or gradient are not finite.
pub fn tune(
    device: &Device,
    model: &Arc<Model>,
    base: Arc<dyn WeightSource>,
    sets: &Sets,
    mask: &[Trainable],
    options: &TuneOptions,
    after: &mut AfterStep<'_>,
) -> Result<Arc<TrainedWeights>> {
    options.check()?;
    let mut training = Training::new(device, model, base, mask, Adamw::default(), options.pass)?;
    let weights = training.weights();
    let mut forget = Order::new(sets.forget.len(), Random::new(options.seed, "forget batches"));
    let mut retain = retain_order(sets.retain.len(), options.seed);
    for _ in 0..options.steps {
        let drawn = draw(&mut forget, sets.forget.len(), options.batch);
        let reference = |i: &usize| sets.references.get(*i).copied().unwrap_or_default();
        let mut objectives: Vec<_> = drawn.iter().map(|i| options.goal.objective(reference(i))).collect();
        let mut old = Vec::new();
        let mut units = units(&sets.forget, &drawn, 1.0);
        if options.retain_weight > 0.0 {
            let drawn = draw(&mut retain, sets.retain.len(), options.batch);
            old.resize(objectives.len(), None);
            old.extend(drawn.iter().map(|i| sets.old.get(i).cloned()));
            objectives.extend(drawn.iter().map(|_| SampleObjective::Mean));
            units.extend(self::units(&sets.retain, &drawn, options.retain_weight));
        }
        let report = training.step_of(&PerSample { losses: objectives, old }, &units, options.learning_rate)?;
        if after(&report, &weights)?.is_break() {
            break;
        }
    }
    Ok(weights)
}

/// The order in which retain samples are drawn.
fn retain_order(count: usize, seed: u64) -> Order {
    Order::new(count, Random::new(seed, "retain batches"))
}

/// The next batch: the numbers of its samples.
pub(super) fn draw(order: &mut Order, count: usize, batch: usize) -> Vec<usize> {
    order.take(batch.min(count)).collect()
}

/// Units of the drawn samples, which count for `weight` together.
pub(super) fn units(samples: &[Arc<Tokens>], drawn: &[usize], weight: f64) -> Vec<Unit> {
    let each = (weight / drawn.len() as f64) as f32;
    let one = |i: &usize| Weighted { tokens: samples[*i].clone(), weight: each };
    drawn.chunks(UNIT).map(|unit| unit.iter().map(one).collect()).collect()
}

/// The largest units that training of these samples can have, for a plan.
pub fn largest_units(sets: [&[Arc<Tokens>]; 2]) -> Vec<Unit> {
    let longest = |samples: &[Arc<Tokens>]| {
        let mut order: Vec<usize> = (0..samples.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(samples[*i].ids.len()));
        order.truncate(UNIT);
        units(samples, &order, 1.0)
    };
    sets.into_iter().filter(|set| !set.is_empty()).flat_map(longest).collect()
}
