//! How an edit stands with the samples that are held out.

use std::sync::Arc;

use crate::Result;
use crate::device::Device;
use crate::model::Model;
use crate::model::weights::WeightSource;
use crate::stream::{Pass, PassOptions, Progress, SampleLoss};
use crate::unlearn::forget::{Judges, LossChange};

/// How a model stands: means over the judges' samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// Loss on what is to be forgotten, in nats.
    pub forget: f64,
    /// The probability of what is to be forgotten: exp(−loss), the mean over samples.
    pub probability: f64,
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
        let mut judge = Judge { device, model, judges, options, before: Standing::default(), seconds: 0.0 };
        judge.before = judge.standing(base, progress)?;
        judge.seconds = started.elapsed().as_secs_f64();
        Ok(judge)
    }

    /// How the model stands with these weights.
    ///
    /// # Errors
    /// When a pass fails.
    pub fn standing(&self, weights: Arc<dyn WeightSource>, progress: Progress<'_>) -> Result<Standing> {
        let pass = Pass::over(self.device, self.model.clone(), weights, self.options)?;
        let half = |number: u64| move |done: u64, of: u64| progress(number * of + done, 2 * of);
        let forget = pass.losses(&self.judges.forget, &half(0))?;
        let held_out = pass.losses(&self.judges.held_out, &half(1))?;
        Ok(Standing {
            forget: mean(&forget, SampleLoss::mean),
            probability: mean(&forget, |loss| (-loss.mean()).exp()),
            held_out: mean(&held_out, SampleLoss::mean),
        })
    }

    /// The share of the probability that is left of what is to be forgotten.
    pub fn kept(&self, standing: Standing) -> f64 {
        standing.probability / self.before.probability
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
