//! The main job: from two measured sets of samples to an edited checkpoint.
//!
//! | step | function |
//! |---|---|
//! | keep some retain samples out of the measurement, to judge by | [`hold_out`] |
//! | importance of the forget set, and of the retain set | [`measure`] |
//! | a rule, or a search, makes a threshold of all ratios; what it costs is measured on the samples held out | [`choose`] |
//! | the edited checkpoint, and the patch that leads to it | [`write`] |

use std::path::Path;
use std::sync::Arc;

use super::edit::{Comparison, DampenedWeights, Dampening, Edit};
use super::importance::ImportanceSink;
use super::measured::Measured;
pub use super::outcome::{LossChange, Outcome, nothing};
use super::selection::{Against, LogRatioHistogram, Rule, largest_share};
use super::store::{Store, as_squares};
use crate::checkpoint::{Checkpoint, PatchWriter, StagedCheckpoint, stage_edited};
use crate::device::Device;
use crate::kernels::Accumulate;
use crate::model::batch::Tokens;
use crate::model::weights::WeightSource;
use crate::model::{Model, Parameter, ParameterId};
use crate::random::Random;
use crate::stream::{Pass, PassOptions, PassReport, Progress, Unit};
use crate::{Error, Result};

/// Retain samples that are held out, at most.
const MOST_HELD_OUT: usize = 128;
/// One in so many retain samples is held out.
const HELD_OUT_OF: usize = 5;
/// The largest share of the weights that the search tries.
const LARGEST_SHARE: f64 = 0.1;
/// The smallest, unless that is less than one weight.
const SMALLEST_SHARE: f64 = 1e-6;
/// How often the search halves its interval: a factor of 100,000 shrinks to 1.05.
const HALVINGS: usize = 8;
/// Evaluations of a search, at most: its halvings and a bound.
const SEARCH: u64 = HALVINGS as u64 + 1;
/// Steps that an evaluation counts as, in what progress is told.
const STEPS: u64 = 1000;

/// How the weights are chosen. The strength λ of what is done to them belongs to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The largest share of the weights whose loss on held-out retain samples stays within the limit.
    Dampen {
        /// The strength: λ.
        lambda: f32,
    },
    /// A rule that makes the threshold of the ratios alone.
    Fixed(Rule),
}

/// For each of `samples` retain samples whether it is held out: one in five, at least one of two and at most 128, drawn
/// with `seed`.
///
/// # Errors
/// When there are fewer than two samples: one to measure and one to judge by.
pub fn hold_out(samples: usize, seed: u64) -> Result<Vec<bool>> {
    if samples < 2 {
        return Err(Error::argument(
            "the retain set has one sample; it takes two, one to measure and one to judge the result by, and better dozens",
        ));
    }
    let count = (samples / HELD_OUT_OF).clamp(1, MOST_HELD_OUT);
    let mut held_out = vec![false; samples];
    for i in &Random::new(seed, "hold-out").order(samples)[..count] {
        held_out[*i] = true;
    }
    Ok(held_out)
}

/// Measures an importance of `units` into `store`, of the parameters that are `wanted`: the mean of the gradients' squares (the
/// Fisher diagonal), or of their magnitudes, as `sum` says.
///
/// # Errors
/// When the pass fails, or a loss is no number, of which no importance can be made.
pub fn measure(
    pass: &Pass,
    units: &[Unit],
    sum: Accumulate,
    wanted: &[bool],
    mut store: Box<dyn Store + Send + Sync>,
    progress: Progress<'_>,
) -> Result<Measured> {
    let mut sink = ImportanceSink::new(&pass.model, vec![sum], &mut *store).only(wanted.to_vec());
    let report = pass.gradients(units, &mut sink, progress)?;
    check_losses(&report)?;
    Ok(Measured::sums(as_squares(store, sum), units.len(), report.losses.len()))
}

/// Whether importance can be made of these losses' gradients.
pub(super) fn check_losses(report: &PassReport) -> Result<()> {
    let Some(number) = report.losses.iter().position(|loss| !loss.mean().is_finite()) else { return Ok(()) };
    let loss = report.losses[number].mean();
    Err(Error::Failed(format!("the loss of sample {number} is {loss}: no importance can be made of it")))
}

/// The samples by which a choice is judged.
#[derive(Clone, Debug)]
pub struct Judges {
    /// The forget set.
    pub forget: Vec<Arc<Tokens>>,
    /// The form of each of its samples, as a number: what is left is judged by the form with the most. Empty: all are of one.
    pub forms: Vec<usize>,
    /// Retain samples that took no part in measuring.
    pub held_out: Vec<Arc<Tokens>>,
}

/// Tries edits of a model without writing them.
struct Attempt<'a> {
    device: &'a Device,
    model: &'a Arc<Model>,
    edited: &'a Editing<'a>,
    options: PassOptions,
}

impl Attempt<'_> {
    /// The mean loss of `samples` with an edit.
    fn loss(&self, dampening: Dampening, samples: &[Arc<Tokens>], progress: Progress<'_>) -> Result<f64> {
        let pass = Pass::over(self.device, self.model.clone(), (self.edited)(dampening), self.options)?;
        mean_loss(&pass, samples, progress)
    }
}

/// Makes a threshold of the ratios and measures what it does. `limit`: the largest [rise](LossChange::rise) of the loss on the
/// samples held out, 0.02 for 2 %. What must not be carried out comes back [refused](Outcome::refused), with the reason and all
/// figures: a rule that selects nothing, a rise above the limit, and, where the method searches, an edit that harms what is
/// to be kept at least as much as what is to be forgotten.
///
/// # Errors
/// When a setting is out of range, or the work fails.
pub fn choose(
    device: &Device,
    model: &Arc<Model>,
    base: &Arc<dyn WeightSource>,
    comparison: &Arc<Comparison>,
    judges: &Judges,
    (method, limit): (Method, f64),
    options: PassOptions,
    progress: Progress<'_>,
) -> Result<Outcome> {
    // Ratios; before and after of both sets; the search.
    let total = 1 + judged(method);
    let histogram = comparison.ratios(device, &|done, of| progress(done * STEPS / of.max(1), total * STEPS))?;
    let edited = |dampening| -> Arc<dyn WeightSource> {
        Arc::new(DampenedWeights::new(base.clone(), comparison.clone(), dampening, device))
    };
    let progress = |done: u64, of: u64| progress(STEPS + done * (total - 1) * STEPS / of.max(1), total * STEPS);
    let ratios = (histogram, comparison.against());
    choose_by(device, model, (base, &edited), ratios, judges, (method, limit), options, &progress)
}

/// Evaluations that choosing by a method takes.
fn judged(method: Method) -> u64 {
    4 + if matches!(method, Method::Dampen { .. }) { SEARCH } else { 0 }
}

/// Makes the weights with an edit.
pub type Editing<'a> = dyn Fn(Dampening) -> Arc<dyn WeightSource> + 'a;

/// As [`choose`], of `ratios` that were counted already; `edited` makes the weights with an edit.
///
/// # Errors
/// As [`choose`].
pub fn choose_by(
    device: &Device,
    model: &Arc<Model>,
    (base, edited): (&Arc<dyn WeightSource>, &Editing<'_>),
    (histogram, against): (LogRatioHistogram, Against),
    judges: &Judges,
    (method, limit): (Method, f64),
    options: PassOptions,
    progress: Progress<'_>,
) -> Result<Outcome> {
    if !(limit >= 0.0 && limit.is_finite()) {
        return Err(Error::argument(format!("the loss may rise by a share from 0, not by {limit}")));
    }
    let searches = matches!(method, Method::Dampen { .. });
    let total = judged(method) * STEPS;
    let at = |step: u64| move |done: u64, of: u64| progress(step * STEPS + done * STEPS / of.max(1), total);
    let before = Pass::over(device, model.clone(), base.clone(), options)?;
    let forget_before = mean_loss(&before, &judges.forget, &at(0))?;
    let held_out_before = mean_loss(&before, &judges.held_out, &at(1))?;
    drop(before);
    let trial = Attempt { device, model, edited, options };
    let mut outcome = Outcome::new(histogram);
    // The held-out loss of every threshold that was tried: few weights may have few ratios, so that shares that differ select
    // the same, and the threshold that is chosen is one of them.
    let mut tried: Vec<(f32, f64)> = Vec::new();
    let (rule, after) = match method {
        Method::Fixed(rule) => (rule, 2),
        Method::Dampen { lambda } => {
            let found = search(&mut outcome, limit, |threshold, step| {
                let known = tried.iter().find(|(of, _)| *of == threshold).map(|(_, loss)| *loss);
                let after = match known {
                    Some(loss) => loss,
                    None => trial.loss(Dampening { threshold, lambda }, &judges.held_out, &at(2 + step))?,
                };
                tried.push((threshold, after));
                Ok(LossChange { before: held_out_before, after }.rise())
            })?;
            let Some(share) = found else { return Ok(outcome) };
            (Rule::Share { share, lambda }, 2 + SEARCH)
        }
    };
    let choice = match rule.choose(&outcome.histogram, against, 1.0) {
        Err(Error::Failed(reason)) => {
            outcome.refused = Some(reason);
            return Ok(outcome);
        }
        choice => choice?,
    };
    outcome.choice = Some(choice);
    let dampening = Dampening { threshold: choice.threshold, lambda: choice.lambda };
    let forget = LossChange { before: forget_before, after: trial.loss(dampening, &judges.forget, &at(after))? };
    let held_out_after = match tried.iter().find(|(of, _)| *of == choice.threshold) {
        Some((_, loss)) => *loss,
        None => trial.loss(dampening, &judges.held_out, &at(after + 1))?,
    };
    let held_out = LossChange { before: held_out_before, after: held_out_after };
    (outcome.forget, outcome.held_out) = (Some(forget), Some(held_out));
    outcome.judge(limit, searches);
    Ok(outcome)
}

/// The largest share within the limit; none where there is no such, which `outcome` then says.
fn search(outcome: &mut Outcome, limit: f64, mut rise: impl FnMut(f32, u64) -> Result<f64>) -> Result<Option<f64>> {
    let weights = outcome.histogram.total() as f64;
    let smallest = SMALLEST_SHARE.max(1.0 / weights.max(1.0)).min(LARGEST_SHARE);
    let histogram = &outcome.histogram;
    let mut step = 0;
    let mut evaluate = |share: f64| {
        let threshold = histogram.threshold_for_share(share);
        step += 1;
        // Nothing is selected, and nothing changes.
        if threshold == f32::INFINITY { Ok(0.0) } else { rise(threshold, step - 1) }
    };
    match largest_share(limit, &mut evaluate, (smallest, LARGEST_SHARE), HALVINGS) {
        Ok(found) => {
            (outcome.curve, outcome.monotonic) = (found.curve, found.monotonic);
            Ok(Some(found.best.share))
        }
        Err(Error::Failed(reason)) => {
            outcome.refused = Some(reason);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Every sample alike.
fn mean_loss(pass: &Pass, samples: &[Arc<Tokens>], progress: Progress<'_>) -> Result<f64> {
    let losses = pass.losses(samples, progress)?;
    Ok(losses.iter().map(|loss| loss.mean()).sum::<f64>() / losses.len() as f64)
}

/// How many weights of a parameter were selected, and how many differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The parameter.
    pub parameter: ParameterId,
    /// Selected weights.
    pub selected: u64,
    /// Weights that differ in the stored precision.
    pub changed: u64,
}

/// Writes the checkpoint with `edit` beside `out`, under a temporary name, and records the changes in `patch`. A
/// parameter that is stored twice is changed in both places.
///
/// # Errors
/// When the output exists or cannot be written, or the device failed. Nothing of it remains then.
pub fn write(
    device: &Device,
    model: &Model,
    checkpoint: &Checkpoint,
    edit: &dyn Edit,
    out: &Path,
    patches: &mut [PatchWriter],
    progress: Progress<'_>,
) -> Result<(StagedCheckpoint, Vec<Changed>)> {
    let mut changes: Vec<Changed> = Vec::new();
    let total = checkpoint.tensors().len() as u64;
    let mut done = 0;
    let staged = stage_edited(checkpoint, out, &mut |tensor, old| {
        done += 1;
        progress(done, total);
        let of = |p: &Parameter| p.name == tensor.name || p.copies.contains(&tensor.name);
        let (Some(id), Some(element)) = (model.parameters.iter().position(of), tensor.element) else {
            return Ok(None);
        };
        let Some(edited) = edit.edit(device, id, (element, old))? else { return Ok(None) };
        for patch in patches.iter_mut() {
            match &edited.low_rank {
                Some(change) => patch.record_low_rank(tensor, old, &edited.bytes, change)?,
                None => patch.record(tensor, old, &edited.bytes)?,
            };
        }
        if !changes.iter().any(|change| change.parameter == id) {
            changes.push(Changed { parameter: id, selected: edited.selected, changed: edited.changed });
        }
        Ok(Some(edited.bytes))
    })?;
    changes.sort_by_key(|change| change.parameter);
    Ok((staged, changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_what_is_held_out() {
        let count = |samples, seed| hold_out(samples, seed).unwrap().iter().filter(|out| **out).count();
        assert_eq!([2, 5, 9, 10, 11, 640, 10_000].map(|n| count(n, 3)), [1, 1, 1, 2, 2, 128, 128]);
        assert_eq!(hold_out(400, 1).unwrap(), hold_out(400, 1).unwrap());
        assert_ne!(hold_out(400, 1).unwrap(), hold_out(400, 2).unwrap());
        for samples in [0, 1] {
            assert!(hold_out(samples, 0).unwrap_err().is_input());
        }
    }
}
