//! How an edit stands with the samples that are held out.

use std::sync::Arc;

use crate::Result;
use crate::device::Device;
use crate::model::Model;
use crate::model::weights::WeightSource;
use crate::stream::{Pass, PassOptions, Progress, SampleLoss};
use crate::unlearn::forget::{Judges, LossChange};

/// Forms in which the model knew less than this share of what it knew in the best one do not count.
const KNOWN: f64 = 0.1;

/// How a model stands: means over the judges' samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// Loss on what is to be forgotten, in nats.
    pub forget: f64,
    /// The share that is left of the probability exp(−loss) of what is to be forgotten, in the form with the most left.
    pub kept: f64,
    /// Loss on what is to be kept, in nats.
    pub held_out: f64,
}

/// Judges edits of a model without writing them.
#[derive(Debug)]
pub struct Judge<'a> {
    /// The device.
    pub device: &'a Device,
    /// The model.
    pub model: &'a Arc<Model>,
    /// The samples to judge by.
    pub judges: &'a Judges,
    /// How passes are run.
    pub options: PassOptions,
    /// How the model stands as it is.
    pub before: Standing,
    /// For each form the mean probability before; none for forms in which next to nothing was known.
    known: Vec<Option<f64>>,
    /// How long it takes to judge an edit.
    pub seconds: f64,
}

impl<'a> Judge<'a> {
    /// A judge of edits of `base`, which is judged first.
    ///
    /// # Errors
    /// When a pass fails.
    pub fn new(
        device: &'a Device,
        model: &'a Arc<Model>,
        base: Arc<dyn WeightSource>,
        judges: &'a Judges,
        options: PassOptions,
        progress: Progress<'_>,
    ) -> Result<Self> {
        let started = std::time::Instant::now();
        let (before, known) = (Standing::default(), Vec::new());
        let mut judge = Judge { device, model, judges, options, before, known, seconds: 0.0 };
        let (forget, held_out) = judge.losses(base, progress)?;
        judge.known = well_known(&by_form(&forget, &judges.forms));
        judge.before = judge.standing_of(&forget, &held_out);
        judge.seconds = started.elapsed().as_secs_f64();
        Ok(judge)
    }

    /// How the model stands with these weights.
    ///
    /// # Errors
    /// When a pass fails.
    pub fn standing(&self, weights: Arc<dyn WeightSource>, progress: Progress<'_>) -> Result<Standing> {
        let (forget, held_out) = self.losses(weights, progress)?;
        Ok(self.standing_of(&forget, &held_out))
    }

    fn losses(
        &self,
        weights: Arc<dyn WeightSource>,
        progress: Progress<'_>,
    ) -> Result<(Vec<SampleLoss>, Vec<SampleLoss>)> {
        let pass = Pass::over(self.device, self.model.clone(), weights, self.options)?;
        let half = |number: u64| move |done: u64, of: u64| progress(number * of + done, 2 * of);
        Ok((pass.losses(&self.judges.forget, &half(0))?, pass.losses(&self.judges.held_out, &half(1))?))
    }

    fn standing_of(&self, forget: &[SampleLoss], held_out: &[SampleLoss]) -> Standing {
        Standing {
            forget: mean(forget, SampleLoss::mean),
            kept: most_left(&by_form(forget, &self.judges.forms), &self.known),
            held_out: mean(held_out, SampleLoss::mean),
        }
    }

    /// What became of the loss on what is to be forgotten.
    pub fn forget(&self, standing: Standing) -> LossChange {
        LossChange { before: self.before.forget, after: standing.forget }
    }

    /// What became of the loss on what is to be kept.
    pub fn held_out(&self, standing: Standing) -> LossChange {
        LossChange { before: self.before.held_out, after: standing.held_out }
    }

    /// The relative rise of the loss on what is to be kept; infinite where it is no number.
    pub fn rise(&self, standing: Standing) -> f64 {
        let rise = self.held_out(standing).rise();
        if rise.is_nan() { f64::INFINITY } else { rise }
    }
}

fn mean(losses: &[SampleLoss], of: impl Fn(&SampleLoss) -> f64) -> f64 {
    losses.iter().map(of).sum::<f64>() / losses.len() as f64
}

/// The mean probability of each form's samples.
fn by_form(losses: &[SampleLoss], forms: &[usize]) -> Vec<f64> {
    let mut sums = vec![(0.0, 0usize); forms.iter().max().map_or(1, |last| last + 1)];
    for (i, loss) in losses.iter().enumerate() {
        let (sum, count) = &mut sums[forms.get(i).copied().unwrap_or(0)];
        *sum += (-loss.mean()).exp();
        *count += 1;
    }
    sums.into_iter().map(|(sum, count)| if count == 0 { 0.0 } else { sum / count as f64 }).collect()
}

/// The probabilities of the forms in which enough was known.
fn well_known(before: &[f64]) -> Vec<Option<f64>> {
    let highest = before.iter().copied().fold(0.0, f64::max);
    before.iter().map(|mean| Some(*mean).filter(|mean| *mean >= KNOWN * highest)).collect()
}

/// The share that is left in the form with the most left.
fn most_left(after: &[f64], known: &[Option<f64>]) -> f64 {
    let left = after.iter().zip(known).filter_map(|(after, before)| before.map(|before| after / before));
    // Unlike `max`, this keeps what is not a number, which must be seen.
    left.fold(0.0, |most: f64, left| if most.is_nan() || left <= most { most } else { left })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(probabilities: &[f64]) -> Vec<SampleLoss> {
        probabilities.iter().map(|p| SampleLoss { tokens: vec![-p.ln() as f32; 2] }).collect()
    }

    #[test]
    fn the_form_with_the_most_left_decides() {
        let forms = [0, 2, 0, 2, 1, 3];
        let before = well_known(&by_form(&losses(&[0.8, 0.2, 0.4, 0.6, 0.01, 0.5]), &forms));
        assert!(before[1].is_none(), "next to nothing was known in it");
        let left = |after: &[f64]| most_left(&by_form(&losses(after), &forms), &before);
        assert!((left(&[0.06, 0.1, 0.06, 0.1, 0.9, 0.05]) - 0.25).abs() < 1e-6);
        assert!((left(&[0.6, 0.1, 0.6, 0.1, 0.9, 0.05]) - 1.0).abs() < 1e-6);
        assert!(left(&[0.6, f64::NAN, 0.6, 0.1, 0.9, 0.05]).is_nan());
    }

    #[test]
    fn without_forms_all_samples_are_of_one() {
        let before = well_known(&by_form(&losses(&[0.9, 0.3]), &[]));
        assert!((most_left(&by_form(&losses(&[0.3, 0.3]), &[]), &before) - 0.5).abs() < 1e-6);
    }
}
