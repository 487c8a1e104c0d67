//! Training under a mask: AdamW (Loshchilov and Hutter 2019) on chosen elements of a model, on any device, streamed as
//! every pass is. [`train`] is the whole loop; [`Training`] is one step of it, for those who bring their own batches.
//!
//! A step is a pass that sums the gradients of a batch, then a sweep over the parameters: each comes to the device in
//! slices, is stepped by `kernels/update/adamw.rs`, and leaves. Master values and moments are `f32` and exist for chosen
//! elements only; the weight that the next pass sees, and that is written in the end, is the master value rounded once to
//! the stored type. So steps that are below the stored type's resolution still add up, and elements that were not chosen
//! keep their bits.

mod options;
pub(in crate::unlearn) mod order;
mod step;
mod weights;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use options::{Adamw, Schedule, TrainOptions, Trainable};
pub use step::{StepReport, Training};
pub use weights::TrainedWeights;

use super::estimator::Estimator;
use crate::device::Device;
use crate::model::Model;
use crate::model::batch::Tokens;
use crate::model::weights::WeightSource;
use crate::random::Random;
use crate::stream::Unit;
use crate::{Error, Result};
use order::Order;

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
    let mut order = Order::new(samples.len(), Random::from_state(options.seed));
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
    check_finite(model, &training.weights())?;
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
