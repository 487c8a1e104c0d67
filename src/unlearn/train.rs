//! Training under a mask: AdamW (Loshchilov and Hutter 2019) on chosen elements of a model, on any device, streamed as
//! every pass is. [`train`] is the whole loop; [`Training`] is one step of it, for those who bring their own batches.
//!
//! A step is a pass that sums the gradients of a batch, then a sweep over the parameters: each comes to the device in
//! slices, is stepped by `kernels/update/adamw.rs`, and leaves. Master values and moments are `f32` and exist for chosen
//! elements only; the weight that the next pass sees, and that is written in the end, is the master value rounded once to
//! the stored type. So steps that are below the stored type's resolution still add up, and elements that were not chosen
//! keep their bits.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, PoisonError, RwLock};

use rayon::prelude::*;

use super::estimator::{BatchWeight, Estimator, Loss};
use super::importance::ImportanceSink;
use super::store::{MemoryStore, Store};
use crate::device::Device;
use crate::kernels::Accumulate;
use crate::kernels::update::adamw::{self, AdamwStep, bias_correction};
use crate::kernels::update::{initial_state, is_selected, mask_words, ranks};
use crate::model::batch::Tokens;
use crate::model::weights::{HostBytes, WeightSource};
use crate::model::{Model, Parameter, ParameterId, Role};
use crate::stream::{Pass, PassOptions, Unit};
use crate::{Element, Error, Result};

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
    fn words(&self, count: usize) -> Result<Option<Vec<u32>>> {
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

/// How [`train`] goes.
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

    fn check(&self, samples: usize) -> Result<()> {
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

/// A packed tensor.
type Packed = (Element, Arc<Vec<u8>>);

/// A model's weights with the trained ones in place of the old: what passes run over while training goes on, and what
/// evaluation and writing take afterwards.
pub struct TrainedWeights {
    base: Arc<dyn WeightSource>,
    trained: RwLock<HashMap<String, Packed>>,
}

impl std::fmt::Debug for TrainedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainedWeights").finish_non_exhaustive()
    }
}

impl TrainedWeights {
    /// The element type and bytes of a parameter of which elements are trained, by its name; none of another.
    pub fn trained(&self, name: &str) -> Option<(Element, Arc<Vec<u8>>)> {
        self.trained.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn set(&self, name: &str, element: Element, bytes: Vec<u8>) {
        let mut trained = self.trained.write().unwrap_or_else(PoisonError::into_inner);
        trained.insert(name.to_string(), (element, Arc::new(bytes)));
    }
}

impl WeightSource for TrainedWeights {
    fn tensor(&self, parameter: &Parameter) -> Result<(Element, HostBytes)> {
        match self.trained(&parameter.name) {
            Some((element, bytes)) => Ok((element, bytes)),
            None => self.base.tensor(parameter),
        }
    }

    fn element(&self, parameter: &Parameter) -> Result<Element> {
        self.base.element(parameter)
    }

    fn device_bytes(&self) -> u64 {
        self.base.device_bytes()
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: usize,
    /// The batch's loss before it, in nats.
    pub loss: f64,
    /// The norm of the gradient of all chosen elements together, before it was clipped.
    pub gradient_norm: f64,
    /// Its learning rate.
    pub learning_rate: f32,
}

/// A parameter in training.
struct Tuned {
    id: ParameterId,
    mask: Vec<u32>,
    /// `[selected, 3]`: master value, first and second moment.
    state: Vec<f32>,
}

/// Training that goes on step by step.
pub struct Training {
    pass: Pass,
    weights: Arc<TrainedWeights>,
    tuned: Vec<Tuned>,
    gradients: MemoryStore,
    adamw: Adamw,
    steps: u32,
}

impl std::fmt::Debug for Training {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Training").field("adamw", &self.adamw).field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl Training {
    /// Training of `source`'s weights where `mask` (one entry for each of the model's parameters) chooses them.
    ///
    /// # Errors
    /// When a mask does not fit its parameter, no element is chosen, or a tensor cannot be read.
    pub fn new(
        device: &Device,
        model: &Arc<Model>,
        source: Arc<dyn WeightSource>,
        mask: &[Trainable],
        adamw: Adamw,
        pass: PassOptions,
    ) -> Result<Self> {
        if mask.len() != model.parameters.len() {
            let (given, right) = (mask.len(), model.parameters.len());
            return Err(Error::argument(format!("masks for {given} parameters; the model has {right}")));
        }
        let weights = Arc::new(TrainedWeights { base: source.clone(), trained: RwLock::default() });
        let mut tuned = Vec::new();
        for (id, (parameter, chosen)) in model.parameters.iter().zip(mask).enumerate() {
            let Some(mask) = chosen.words(parameter.count())? else { continue };
            let (element, bytes) = source.tensor(parameter)?;
            let state = initial_state(element, &bytes, &mask, parameter.count())?;
            weights.set(&parameter.name, element, bytes.to_vec());
            tuned.push(Tuned { id, mask, state });
        }
        if tuned.is_empty() {
            return Err(Error::argument("training: the mask chooses no element"));
        }
        let gradients = MemoryStore::new(model);
        let pass = Pass::over(device, model.clone(), weights.clone(), pass)?;
        Ok(Training { pass, weights, tuned, gradients, adamw, steps: 0 })
    }

    /// The weights as they are after the steps so far.
    pub fn weights(&self) -> Arc<TrainedWeights> {
        self.weights.clone()
    }

    /// One step down the gradient of the sum of the units' losses.
    ///
    /// # Errors
    /// When a sample does not fit the model or the budget, the device failed, or loss or gradient are not finite (the
    /// weights are those of the step before then).
    pub fn step(&mut self, units: &[Unit], learning_rate: f32) -> Result<StepReport> {
        let model = self.pass.model.clone();
        let mut wanted = vec![false; model.parameters.len()];
        self.tuned.iter().for_each(|tuned| wanted[tuned.id] = true);
        self.gradients.clear();
        let mut sink = ImportanceSink::new(&model, vec![Accumulate::Sum], &mut self.gradients).only(wanted);
        let losses = self.pass.gradients(units, &mut sink, &|_, _| {})?.losses;
        let weighted = units.iter().flatten().zip(&losses).map(|(s, loss)| f64::from(s.weight) * loss.sum());
        let loss: f64 = weighted.sum();
        let gradient_norm = self.gradient_norm()?;
        self.steps += 1;
        let report = StepReport { step: self.steps as usize, loss, gradient_norm, learning_rate };
        if !(loss.is_finite() && gradient_norm.is_finite()) {
            let problem = format!("the loss is {loss} and the gradient's norm {gradient_norm}");
            return Err(Error::Failed(format!("step {} of training: {problem}; train with smaller steps", self.steps)));
        }
        let scale = self.adamw.clip.map_or(1.0, |clip| (f64::from(clip) / gradient_norm).min(1.0));
        for tuned in &mut self.tuned {
            let parameter = &model.parameters[tuned.id];
            let step = adamw_step(&self.adamw, parameter.role, self.steps, learning_rate, scale as f32);
            let gradient = self.gradients.all(tuned.id, Accumulate::Sum)?;
            let Some((element, old)) = self.weights.trained(&parameter.name) else { continue };
            let new = tuned.advance(&self.pass.device, element, &old, &gradient, step)?;
            self.weights.set(&parameter.name, element, new);
        }
        Ok(report)
    }

    /// The norm of the gradient of all chosen elements together.
    fn gradient_norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for tuned in &self.tuned {
            let gradient = self.gradients.all(tuned.id, Accumulate::Sum)?;
            // The pieces are added in order, whatever the number of threads.
            let pieces = gradient.par_chunks(1 << 16).zip(tuned.mask.par_chunks(1 << 11));
            let squares = pieces.map(|(gradient, mask)| {
                let chosen = gradient.iter().enumerate().filter(|(i, _)| is_selected(mask, *i));
                chosen.map(|(_, g)| f64::from(*g).powi(2)).sum::<f64>()
            });
            sum += squares.collect::<Vec<f64>>().iter().sum::<f64>();
        }
        Ok(sum.sqrt())
    }
}

fn adamw_step(settings: &Adamw, role: Role, t: u32, learning_rate: f32, gradient_scale: f32) -> AdamwStep {
    let Adamw { beta1, beta2, epsilon, weight_decay, .. } = *settings;
    AdamwStep {
        learning_rate,
        beta1,
        beta2,
        epsilon,
        weight_decay: if role == Role::Vector { 0.0 } else { weight_decay },
        bias_correction1: bias_correction(beta1, t),
        bias_correction2: bias_correction(beta2, t),
        gradient_scale,
    }
}

impl Tuned {
    /// Steps master values and moments and gives the new weights, packed.
    fn advance(
        &mut self,
        device: &Device,
        element: Element,
        old: &[u8],
        gradient: &[f32],
        step: AdamwStep,
    ) -> Result<Vec<u8>> {
        let mut new = old.to_vec();
        let mut first = 0;
        for range in slices(gradient.len(), device) {
            let mask = &self.mask[range.start / 32..mask_words(range.end)];
            let selected: usize = mask.iter().map(|word| word.count_ones() as usize).sum();
            if selected == 0 {
                continue;
            }
            let state = &mut self.state[3 * first..3 * (first + selected)];
            first += selected;
            let packed = &mut new[range.start * element.size()..range.end * element.size()];
            let (count, weights) = (range.len(), device.upload_new(packed)?);
            let (mask, ranks) = (device.upload_new(mask)?, device.upload_new(&ranks(mask))?);
            let (gradient, rows) = (device.upload_new(&gradient[range])?, device.upload_new(state)?);
            adamw::run(device, count, element, &weights, &mask, &ranks, &gradient, &rows, step)?;
            device.download(&weights, 0, packed)?;
            device.download(&rows, 0, bytemuck::cast_slice_mut(state))?;
        }
        Ok(new)
    }
}

/// Cuts `count` elements into slices that fit one binding and the device's budget, at words of the mask.
fn slices(count: usize, device: &Device) -> impl Iterator<Item = Range<usize>> {
    /// The largest slice.
    const MOST: u64 = 1 << 24;
    /// Bytes of an element's state, the largest of the buffers.
    const STATE: u64 = 12;
    /// Bytes of an element in all buffers together, at most.
    const ALL: u64 = STATE + 4 + 4 + 1;
    let fitting = MOST.min(device.binding_limit() / STATE).min(device.budget().limit() / ALL);
    let length = (fitting as usize / 32 * 32).max(32);
    (0..count).step_by(length).map(move |first| first..(first + length).min(count))
}

/// What [`train`] gives.
#[derive(Debug)]
pub struct Trained {
    /// What each step did.
    pub steps: Vec<StepReport>,
    /// The weights: the trained ones, and all others as they were.
    pub weights: Arc<TrainedWeights>,
}

/// Trains the elements that `mask` chooses (one entry for each of the model's parameters) on `samples`. `progress` is told
/// of every step and may end the training there.
///
/// # Errors
/// When options, mask or samples are wrong, the device failed, or a loss, gradient or trained weight is not finite.
pub fn train(
    device: &Device,
    model: &Arc<Model>,
    source: Arc<dyn WeightSource>,
    samples: &[Arc<Tokens>],
    mask: &[Trainable],
    options: &TrainOptions,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Trained> {
    options.check(samples.len())?;
    let mut training = Training::new(device, model, source, mask, options.adamw, options.pass)?;
    let mut order = Order::new(samples.len(), options.seed);
    let mut steps = Vec::with_capacity(options.steps);
    for t in 1..=options.steps {
        let size = options.batch.min(samples.len());
        let batch: Vec<Arc<Tokens>> = order.by_ref().take(size).map(|i| samples[i].clone()).collect();
        let report = training.step(&units(&batch, options), options.rate(t))?;
        steps.push(report);
        if progress(&report).is_break() {
            break;
        }
    }
    check_finite(model, &training.weights)?;
    Ok(Trained { steps, weights: training.weights() })
}

/// A batch in units of `options.unit` samples.
fn units(batch: &[Arc<Tokens>], options: &TrainOptions) -> Vec<Unit> {
    let whole = Estimator::Batch(batch.len()).units(batch, options.loss, options.batch_weight);
    whole.iter().flat_map(|batch| batch.chunks(options.unit)).map(<[_]>::to_vec).collect()
}

/// A stored type may not reach as far as `f32`.
fn check_finite(model: &Model, weights: &TrainedWeights) -> Result<()> {
    for parameter in &model.parameters {
        let Some((element, bytes)) = weights.trained(&parameter.name) else { continue };
        let mut values = vec![0.0; parameter.count()];
        element.decode(&bytes, &mut values)?;
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            let problem = format!("element {place} of {} is not finite in {}", parameter.name, element.name());
            return Err(Error::Failed(format!("training: {problem}; train with smaller steps")));
        }
    }
    Ok(())
}

/// An endless sequence of the numbers below `count`: one permutation after the other.
struct Order {
    permutation: Vec<usize>,
    next: usize,
    state: u64,
}

impl Order {
    fn new(count: usize, seed: u64) -> Self {
        Order { permutation: (0..count).collect(), next: count, state: seed }
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.next == self.permutation.len() {
            self.next = 0;
            for last in (1..self.permutation.len()).rev() {
                let other = ((u128::from(self.random()) * (last as u128 + 1)) >> 64) as usize;
                self.permutation.swap(last, other);
            }
        }
        let drawn = self.permutation.get(self.next).copied();
        self.next += 1;
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_drawn_once_before_any_is_drawn_again() {
        for (count, seed) in [(1, 0), (7, 1), (100, u64::MAX)] {
            let drawn: Vec<usize> = Order::new(count, seed).take(3 * count).collect();
            let mut rounds = drawn.chunks(count).map(<[_]>::to_vec).collect::<Vec<_>>();
            assert!(count < 10 || rounds[0] != rounds[1], "not shuffled again");
            rounds.iter_mut().for_each(|round| round.sort_unstable());
            assert!(rounds.iter().all(|round| round.iter().copied().eq(0..count)));
        }
    }
}
