//! How samples are grouped into the units that have one gradient each, and what each sample's loss weighs in it.

use std::str::FromStr;
use std::sync::Arc;

use crate::model::batch::Tokens;
use crate::stream::{Unit, Weighted};
use crate::{Error, Result};

/// The loss of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Loss {
    /// Mean cross-entropy over the targets, as `model(input_ids, labels=labels).loss`.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

/// How importance is accumulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Estimator {
    /// `(1/N) Σ_n g_n ⊙ g_n`: the Fisher diagonal.
    #[default]
    Sample,
    /// `(1/M) Σ_m (mean of g_n in batch m)²`: what most published unlearning code computes under the name.
    Batch(usize),
}

/// What a sample weighs in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BatchWeight {
    /// Every sample alike.
    #[default]
    Samples,
    /// By its number of targets, as the loss of a padded batch does.
    Tokens,
}

impl FromStr for Estimator {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "sample" => Ok(Estimator::Sample),
            Some(("batch", size)) if size.parse::<usize>().is_ok_and(|size| size > 0) => {
                Ok(Estimator::Batch(size.parse().unwrap_or(1)))
            }
            _ => {
                Err(Error::argument(format!("{text:?} is no estimator; right are sample and batch:B with B from 1 up")))
            }
        }
    }
}

impl std::fmt::Display for Estimator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Estimator::Sample => f.write_str("sample"),
            Estimator::Batch(size) => write!(f, "batch:{size}"),
        }
    }
}

impl Estimator {
    /// Groups samples into units. A short last batch counts as one.
    pub fn units(self, samples: &[Arc<Tokens>], loss: Loss, weight: BatchWeight) -> Vec<Unit> {
        let size = match self {
            Estimator::Sample => 1,
            Estimator::Batch(size) => size,
        };
        let unit = |batch: &[Arc<Tokens>]| {
            let targets: usize = batch.iter().map(|s| s.target_count()).sum();
            let of = |sample: &Tokens| match (loss, weight) {
                (Loss::Sum, _) => 1.0 / batch.len() as f64,
                (Loss::Mean, BatchWeight::Samples) => 1.0 / (batch.len() * sample.target_count()) as f64,
                (Loss::Mean, BatchWeight::Tokens) => 1.0 / targets as f64,
            };
            batch.iter().map(|s| Weighted { tokens: s.clone(), weight: of(s) as f32 }).collect()
        };
        samples.chunks(size).map(unit).collect()
    }
}
