//! Repair: training on the retain set that leaves alone what was forgotten. What of a step's gradient would raise the
//! forgotten answers again is projected out ([`Training::guarded_step`]), and the training is judged on its way: what brings
//! knowledge back is not taken, and it ends where it no longer helps.

use std::sync::Arc;

use super::judge::{Judge, Standing};
use super::search::Trial;
use super::tune::{draw, units};
use crate::model::batch::Tokens;
use crate::model::weights::WeightSource;
use crate::random::Random;
use crate::stream::{PassOptions, Progress, Unit, Weighted};
use crate::unlearn::train::order::Order;
use crate::unlearn::train::{Adamw, Trainable, Training};
use crate::{Error, Result};

/// Looks without a gain after which it ends.
const PATIENCE: usize = 3;
/// What may come back of the probability of what was forgotten: so much of what it was.
const COMES_BACK: f64 = 0.005;

/// How a model is repaired.
#[derive(Clone, Copy, Debug)]
pub struct Recalibration {
    /// Steps, at most.
    pub steps: usize,
    /// Samples of each set in a step; at most as many as there are.
    pub batch: usize,
    /// The learning rate.
    pub learning_rate: f32,
    /// Seed of the samples' orders.
    pub seed: u64,
    /// How passes are run.
    pub pass: PassOptions,
}

impl Recalibration {
    /// How often it is judged, at most.
    pub const LOOKS: usize = 8;
}

/// What a repair led to.
pub struct Recalibrated {
    /// The weights of the best point; those before where nothing was better.
    pub weights: Arc<dyn WeightSource>,
    /// How they stand.
    pub standing: Standing,
    /// All points that were judged.
    pub trials: Vec<Trial>,
    /// The best one's place; none where nothing was better.
    pub chosen: Option<usize>,
}

impl std::fmt::Debug for Recalibrated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recalibrated").field("standing", &self.standing).finish_non_exhaustive()
    }
}

/// Trains the elements that `mask` chooses of `edited`, which stands as `standing` says, on `retain`, without lowering the loss
/// on `forget`.
///
/// # Errors
/// When an option or the mask is wrong, or the device failed. Steps that lead to numbers that are not finite are no error:
/// they end it.
pub fn recalibrate(
    judge: &Judge<'_>,
    (edited, standing): (Arc<dyn WeightSource>, Standing),
    (forget, retain): (&[Arc<Tokens>], &[Arc<Tokens>]),
    mask: &[Trainable],
    options: &Recalibration,
    progress: Progress<'_>,
) -> Result<Recalibrated> {
    if forget.is_empty() || retain.is_empty() || options.batch == 0 {
        return Err(Error::argument("recalibration takes a sample of each set, and one a batch"));
    }
    let mut training = Training::new(judge.device, judge.model, edited.clone(), mask, Adamw::default(), options.pass)?;
    let mut forget_order = Order::new(forget.len(), Random::new(options.seed, "recalibration, forget batches"));
    let mut retain_order = Order::new(retain.len(), Random::new(options.seed, "recalibration, retain batches"));
    let most = standing.kept + COMES_BACK;
    let every = options.steps.div_ceil(Recalibration::LOOKS).max(1);
    let mut best = Recalibrated { weights: edited, standing, trials: Vec::new(), chosen: None };
    let mut without_gain = 0;
    for step in 1..=options.steps {
        let learned = mean_units(retain, &draw(&mut retain_order, retain.len(), options.batch));
        let guarded = mean_units(forget, &draw(&mut forget_order, forget.len(), options.batch));
        match training.guarded_step(&learned, &guarded, options.learning_rate) {
            Ok(_) => {}
            Err(Error::Failed(_)) => break,
            Err(error) => return Err(error),
        }
        progress(step as u64, options.steps as u64);
        if step % every != 0 && step != options.steps {
            continue;
        }
        let weights: Arc<dyn WeightSource> = Arc::new(training.weights().snapshot());
        let standing = judge.standing(weights.clone(), &|_, _| {})?;
        let (kept, rise) = (standing.kept, judge.rise(standing));
        let better = kept <= most && standing.held_out < best.standing.held_out;
        if better {
            (best.weights, best.standing, best.chosen) = (weights, standing, Some(best.trials.len()));
        }
        best.trials.push(Trial { learning_rate: options.learning_rate, step, scale: None, ridge: None, kept, rise });
        without_gain = if better { 0 } else { without_gain + 1 };
        if without_gain == PATIENCE {
            break;
        }
    }
    Ok(best)
}

/// Units of the drawn samples of which the mean of the samples' mean losses is taken.
fn mean_units(samples: &[Arc<Tokens>], drawn: &[usize]) -> Vec<Unit> {
    let mut units = units(samples, drawn, 1.0);
    let each = |sample: &mut Weighted| sample.weight /= sample.tokens.target_count() as f32;
    units.iter_mut().flatten().for_each(each);
    units
}
