//! One step: the gradient of a batch, its norm, and AdamW on every chosen element.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::options::{Adamw, Trainable};
use super::weights::TrainedWeights;
use crate::device::Device;
use crate::kernels::Accumulate;
use crate::kernels::update::adamw::{self, AdamwStep, bias_correction};
use crate::kernels::update::{initial_state, is_selected, mask_words, ranks};
use crate::model::weights::WeightSource;
use crate::model::{Model, ParameterId, Role};
use crate::stream::{CrossEntropy, Objective, Pass, PassOptions, Unit};
use crate::unlearn::importance::ImportanceSink;
use crate::unlearn::store::{MemoryStore, Store};
use crate::{Element, Error, Result};

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
    /// The gradient that steps must not follow, where one is given.
    guarded: MemoryStore,
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
        let weights = Arc::new(TrainedWeights::over(source.clone()));
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
        let (gradients, guarded) = (MemoryStore::new(model), MemoryStore::new(model));
        let pass = Pass::over(device, model.clone(), weights.clone(), pass)?;
        Ok(Training { pass, weights, tuned, gradients, guarded, adamw, steps: 0 })
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
        self.step_of(&CrossEntropy, units, learning_rate)
    }

    /// One step down the gradient of the sum of the units' losses, which `objective` says what they are.
    ///
    /// # Errors
    /// As [`step`](Self::step), or when the objective is for another number of samples.
    pub fn step_of(&mut self, objective: &dyn Objective, units: &[Unit], learning_rate: f32) -> Result<StepReport> {
        let loss = gradient(&self.pass, &self.tuned, &mut self.gradients, objective, units)?;
        self.advance(loss, 0.0, learning_rate)
    }

    /// One step that lowers the loss of `units` and does not, to first order, lower that of `guarded`: what of the gradient
    /// g points along the gradient f of `guarded` is taken out, g − max(0, ⟨g, f⟩) f / ‖f‖². The dot products are over all
    /// chosen elements together: one sweep for them, a second one for the step.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn guarded_step(&mut self, units: &[Unit], guarded: &[Unit], learning_rate: f32) -> Result<StepReport> {
        let loss = gradient(&self.pass, &self.tuned, &mut self.gradients, &CrossEntropy, units)?;
        gradient(&self.pass, &self.tuned, &mut self.guarded, &CrossEntropy, guarded)?;
        let (along, square) = (self.dot(&self.gradients, &self.guarded)?, self.dot(&self.guarded, &self.guarded)?);
        let taken = if square > 0.0 { along.max(0.0) / square } else { 0.0 };
        self.advance(loss, taken, learning_rate)
    }

    /// A step along the gradient less `taken` times the guarded one.
    fn advance(&mut self, loss: f64, taken: f64, learning_rate: f32) -> Result<StepReport> {
        let model = self.pass.model.clone();
        let square = |a, b| self.dot(a, b);
        let (g, f) = (&self.gradients, &self.guarded);
        let mut norm = square(g, g)?;
        if taken != 0.0 {
            norm += taken * taken * square(f, f)? - 2.0 * taken * square(g, f)?;
        }
        let gradient_norm = norm.max(0.0).sqrt();
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
            let mut gradient = self.gradients.all(tuned.id, Accumulate::Sum)?;
            if taken != 0.0 {
                let guarded = self.guarded.all(tuned.id, Accumulate::Sum)?;
                let pairs = gradient.par_iter_mut().zip(&guarded);
                pairs.for_each(|(g, f)| *g = (f64::from(*g) - taken * f64::from(*f)) as f32);
            }
            let Some((element, old)) = self.weights.trained(&parameter.name) else { continue };
            let new = tuned.advance(&self.pass.device, element, &old, &gradient, step)?;
            self.weights.set(&parameter.name, element, new);
        }
        Ok(report)
    }

    /// The dot product of two gradients over all chosen elements.
    fn dot(&self, a: &MemoryStore, b: &MemoryStore) -> Result<f64> {
        let mut sum = 0.0;
        for tuned in &self.tuned {
            let a = a.all(tuned.id, Accumulate::Sum)?;
            let b = b.all(tuned.id, Accumulate::Sum)?;
            // The pieces are added in order, whatever the number of threads.
            let pieces = a.par_chunks(1 << 16).zip(b.par_chunks(1 << 16)).zip(tuned.mask.par_chunks(1 << 11));
            let products = pieces.map(|((a, b), mask)| {
                let chosen = a.iter().zip(b).enumerate().filter(|(i, _)| is_selected(mask, *i));
                chosen.map(|(_, (a, b))| f64::from(*a) * f64::from(*b)).sum::<f64>()
            });
            sum += products.collect::<Vec<f64>>().iter().sum::<f64>();
        }
        Ok(sum)
    }
}

/// The loss of `units`, and its gradient in the parameters that are trained into `store`.
fn gradient(
    pass: &Pass,
    tuned: &[Tuned],
    store: &mut MemoryStore,
    objective: &dyn Objective,
    units: &[Unit],
) -> Result<f64> {
    let mut wanted = vec![false; pass.model.parameters.len()];
    tuned.iter().for_each(|tuned| wanted[tuned.id] = true);
    store.clear();
    let mut sink = ImportanceSink::new(&pass.model, vec![Accumulate::Sum], store).only(wanted);
    let losses = pass.gradients_of(objective, units, &mut sink, &|_, _| {})?.losses;
    let samples = units.iter().flatten().zip(&losses).enumerate();
    Ok(samples.map(|(i, (sample, losses))| f64::from(sample.weight) * objective.term(i, losses).value).sum())
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
