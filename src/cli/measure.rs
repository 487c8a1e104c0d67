//! Flags that say how importance is measured.

use std::sync::Arc;

use clap::ValueEnum;

use efface::model::batch::Tokens;
use efface::model::head::LossKind;
use efface::stream::{Labels, Unit};
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::{Error, Result};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LossName {
    /// Their mean, as model(input_ids, labels=labels).loss.
    Mean,
    /// Their sum.
    Sum,
    /// The mean over the targets' positions of the logits' squared norm, whatever the labels are (label-free SSD).
    Logits,
}

/// `--batch-weight`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightName {
    /// Every sample alike.
    Samples,
    /// By its number of targets.
    Tokens,
}

/// `--labels`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
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
            LossName::Mean | LossName::Logits => Loss::Mean,
            LossName::Sum => Loss::Sum,
        }
    }

    /// What the losses of single targets are.
    pub fn kind(self) -> LossKind {
        match self {
            LossName::Mean | LossName::Sum => LossKind::CrossEntropy,
            LossName::Logits => LossKind::SquareNorm,
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
    /// Finds settings that contradict each other.
    ///
    /// # Errors
    /// When there are any.
    pub fn check(&self) -> Result<()> {
        match (self.loss, self.labels) {
            (LossName::Logits, LabelsName::Model) => Err(Error::argument(
                "--labels model draws labels, and --loss logits looks at none: leave one of them out",
            )),
            _ => Ok(()),
        }
    }

    /// For each flag whether it says something else than where none is given.
    pub fn given(&self) -> [(&'static str, bool); 4] {
        [
            ("estimator", self.estimator != Estimator::Sample),
            ("loss", self.loss != LossName::Mean),
            ("batch-weight", self.batch_weight != WeightName::Samples),
            ("labels", self.labels != LabelsName::Data),
        ]
    }

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
