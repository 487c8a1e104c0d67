//! Flags that say how importance is measured.

use std::sync::Arc;

use clap::ValueEnum;

use efface::model::batch::Tokens;
use efface::stream::{Labels, Unit};
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};

/// What the gradients are of, and how they are accumulated.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Measuring")]
pub struct Measure {
    /// How importance is accumulated: sample (the Fisher diagonal, the mean of squared per-sample gradients), or batch:B
    /// (the mean of squared gradients of batches of B).
    #[arg(long, value_name = "ESTIMATOR", default_value_t = Estimator::Sample)]
    pub estimator: Estimator,
    /// The loss of a sample over its targets.
    #[arg(long, value_enum, default_value = "mean")]
    pub loss: LossName,
    /// What a sample weighs in its batch: every one alike, or by its number of targets as in a padded batch.
    #[arg(long, value_enum, default_value = "samples")]
    pub batch_weight: WeightName,
    /// Labels from the data (the empirical Fisher), or drawn from the model's own distribution (the true Fisher).
    #[arg(long, value_enum, default_value = "data")]
    pub labels: LabelsName,
}

/// `--loss`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LossName {
    /// Their mean, as model(input_ids, labels=labels).loss.
    Mean,
    /// Their sum.
    Sum,
}

/// `--batch-weight`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum WeightName {
    /// Every sample alike.
    Samples,
    /// By its number of targets.
    Tokens,
}

/// `--labels`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LabelsName {
    /// The data's.
    Data,
    /// Drawn from the model, with --seed.
    Model,
}

impl LossName {
    /// The loss of this name.
    pub fn loss(self) -> Loss {
        match self {
            LossName::Mean => Loss::Mean,
            LossName::Sum => Loss::Sum,
        }
    }
}

impl LabelsName {
    /// The labels of this name; drawn ones with `seed`.
    pub fn labels(self, seed: u64) -> Labels {
        match self {
            LabelsName::Data => Labels::Data,
            LabelsName::Model => Labels::Model { seed },
        }
    }
}

/// The name of a flag's value.
pub fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().into())
}

impl Measure {
    /// What a sample weighs.
    pub fn weight(&self) -> BatchWeight {
        match self.batch_weight {
            WeightName::Samples => BatchWeight::Samples,
            WeightName::Tokens => BatchWeight::Tokens,
        }
    }

    /// Samples grouped into the units that have one gradient each.
    pub fn units(&self, samples: &[Arc<Tokens>]) -> Vec<Unit> {
        self.estimator.units(samples, self.loss.loss(), self.weight())
    }

    /// The settings by name, as files of importance carry them.
    pub fn names(&self) -> [(&'static str, String); 4] {
        [
            ("estimator", self.estimator.to_string()),
            ("loss", name(self.loss)),
            ("batch_weight", name(self.batch_weight)),
            ("labels", name(self.labels)),
        ]
    }
}
