//! Flags that say which weights are chosen, and what is done to them. Those of training are in `training.rs`.

use std::path::PathBuf;

use clap::ValueEnum;

use efface::model::Model;
use efface::unlearn::forget::Method;
use efface::unlearn::importance::Kind;
use efface::unlearn::names;
use efface::unlearn::selection::{Against, Combine, Granularity, LogRatioHistogram, Rule};
use efface::{Error, Result};

use super::super::measure::name;
use super::heads::{self, HeadsArgs};
use super::recipe::{MaskBy, Recipe};
use super::redirect::RedirectArgs;
use super::training::TrainingArgs;

/// How the weights are chosen.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Choosing")]
pub struct Choosing {
    /// How the knowledge is removed.
    #[arg(long, value_enum, default_value = "dampen")]
    pub method: MethodName,
    /// ssd: a weight is chosen where F_forget exceeds this times F [default: 10].
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    alpha: Option<f32>,
    /// dampen, ssd: a chosen weight is multiplied by min(L · F / F_forget, 1) [default: 1].
    #[arg(long, value_name = "L", allow_negative_numbers = true)]
    lambda: Option<f32>,
    /// What F is: the importance for the retain set, or for both sets together as in the paper.
    ///
    /// [default: retain]
    #[arg(long, value_enum)]
    pub against: Option<AgainstName>,
    /// ssd-auto: how many samples the model was trained on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    dataset_size: Option<u64>,
    /// The most that the loss on held-out retain samples may rise, in percent or as a share of what it was (of one nat, where
    /// it was less) [default: 2% for dampen and whatever searches its strength, which go as far as this allows; 100% for
    /// the others, beyond which the model counts as destroyed].
    #[arg(long, value_name = "SHARE", value_parser = share, allow_hyphen_values = true)]
    max_utility_loss: Option<f64>,
    /// What is chosen together.
    ///
    /// [default: element]
    #[arg(long, value_enum)]
    pub granularity: Option<GranularityName>,
    /// Measure each form of the forget set's records by itself (their key `form`), and choose what the forms agree on: by the
    /// mean of their importances, every form alike; by the geometric mean; by the smallest (chosen where F_forget / F is large
    /// enough for every form); or by the K-th largest (where it is for K forms) [default: one importance over all samples].
    #[arg(long, value_name = "mean|geomean|min|quorum:K")]
    pub combine: Option<Combine>,
    /// What of the gradients is the importance: the mean of their squares, or of their magnitudes [default: fisher].
    #[arg(long, value_enum)]
    pub kind: Option<KindName>,
    /// Change only tensors whose names match (* stands for any text); may be repeated.
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,
    /// Leave tensors alone whose names match; may be repeated.
    #[arg(long, value_name = "GLOB")]
    skip: Vec<String>,
    /// The importance for the retain set, from `efface fisher`: measuring it again is skipped.
    #[arg(long, value_name = "FILE")]
    pub retain_fisher: Option<PathBuf>,
    #[command(flatten)]
    pub training: TrainingArgs,
    #[command(flatten)]
    pub redirect: RedirectArgs,
    #[command(flatten)]
    pub heads: HeadsArgs,
}

/// `--method`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MethodName {
    /// The most weights, by F_forget / F, that held-out retain samples allow.
    Dampen,
    /// Selective synaptic dampening: those with F_forget > alpha · F.
    Ssd,
    /// The same with alpha from a percentile of the ratios (needs --dataset-size).
    SsdAuto,
    /// Gradient difference: training raises the loss on the forget set and lowers that on the retain set.
    Graddiff,
    /// Negative preference optimisation: the same, with an ascent that fades as the forget set gets less likely than it was.
    Npo,
    /// The same without reference to the old model.
    Simnpo,
    /// Training on refusals for answers.
    Refusal,
    /// Training on answers of other records, of the weights with the largest gradients.
    Salun,
    /// NPO (or --objective graddiff) of the weights with the highest score of WAGLE.
    Wagle,
    /// Learning the forget set, and going the other way.
    TaskVector,
    /// A change of low rank after which a concept's name means something else. Goes by names, not by wordings.
    Redirect,
    /// The attention heads whose effect on the forget set is largest: what they add is taken away.
    Heads,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Task {
    /// Dampen what is chosen so.
    Dampen(Method),
    /// Train.
    Train(Recipe),
    /// Redirect concepts.
    Redirect,
    /// Choose heads and scale them.
    Heads(heads::Recipe),
}

/// `--against`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AgainstName {
    /// The retain set.
    Retain,
    /// Both sets together.
    Full,
}

/// `--kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindName {
    /// The mean of g²: the Fisher diagonal.
    Fisher,
    /// The mean of |g|.
    Abs,
}

/// `--granularity`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GranularityName {
    /// Every weight for itself.
    Element,
    /// Rows of the stored matrices.
    Row,
    /// Columns of the stored matrices.
    Column,
    /// Attention heads (other tensors are left alone).
    Head,
    /// Whole tensors.
    Tensor,
}

impl Choosing {
    /// What is to be done, for a forget set of so many samples.
    ///
    /// # Errors
    /// When a flag is missing, out of range, or belongs to another method.
    pub fn task(&self, forget: usize) -> Result<Task> {
        let recipe = self.training.recipe(self.method)?;
        let method = self.method;
        let foreign = |given: bool, flag: &str, of: &str| match given {
            true => Err(belongs(flag, of, method)),
            false => Ok(()),
        };
        self.redirect.check(method)?;
        self.heads.check(method)?;
        if method != MethodName::Ssd {
            foreign(self.alpha.is_some(), "alpha", "ssd")?;
        }
        if method != MethodName::SsdAuto {
            foreign(self.dataset_size.is_some(), "dataset-size", "ssd-auto")?;
        }
        if method == MethodName::Redirect {
            foreign(self.lambda.is_some(), "lambda", "dampen or ssd")?;
            foreign(self.retain_fisher.is_some(), "retain-fisher", "dampen, or to --mask ratio")?;
            self.training.share_strength()?;
            return Ok(Task::Redirect);
        }
        if method == MethodName::Heads {
            foreign(self.lambda.is_some(), "lambda", "dampen or ssd")?;
            let weight = self.training.retain_weight.unwrap_or(1.0);
            return Ok(Task::Heads(self.heads.recipe(weight, self.training.share_strength()?)?));
        }
        if let Some(recipe) = recipe {
            foreign(self.lambda.is_some(), "lambda", "dampen or ssd")?;
            let ratio = recipe.mask == MaskBy::Ratio;
            foreign(self.retain_fisher.is_some() && !ratio, "retain-fisher", "dampen, or to --mask ratio")?;
            return Ok(Task::Train(recipe));
        }
        let lambda = self.lambda.unwrap_or(1.0);
        if !(lambda.is_finite() && lambda >= 0.0) {
            return Err(Error::argument(format!("--lambda is a number from 0, not {lambda}")));
        }
        match method {
            MethodName::Dampen => Ok(Task::Dampen(Method::Dampen { lambda })),
            MethodName::Ssd => Ok(Task::Dampen(Method::Fixed(Rule::Ssd { alpha: self.alpha.unwrap_or(10.0), lambda }))),
            _ => {
                foreign(self.lambda.is_some(), "lambda", "dampen or ssd")?;
                let missing = || {
                    Error::argument(
                        "--method ssd-auto needs --dataset-size: how many samples the model was trained on (its \
                         percentile goes by the forget set's part in them)",
                    )
                };
                let dataset = self.dataset_size.ok_or_else(missing)?;
                Ok(Task::Dampen(Method::Fixed(Rule::SsdAuto { forget: forget as u64, dataset })))
            }
        }
    }

    /// What the forget importance is compared with, for sets of so many samples.
    pub fn against(&self, forget: usize, retain: usize) -> Against {
        match self.against {
            None | Some(AgainstName::Retain) => Against::Retain,
            Some(AgainstName::Full) => Against::Full { forget: forget as u64, retain: retain as u64 },
        }
    }

    /// Finds what is wrong with the settings before the work begins.
    ///
    /// # Errors
    /// As [`task`](Self::task), and when the rule could not select anything whatever is measured.
    pub fn check(&self, forget: usize, retain: usize) -> Result<()> {
        self.training.repair()?;
        let Task::Dampen(Method::Fixed(rule)) = self.task(forget)? else { return Ok(()) };
        match rule.choose(&LogRatioHistogram::new(), self.against(forget, retain), 1.0) {
            Err(error) if error.is_input() => Err(error),
            _ => Ok(()),
        }
    }

    /// The largest relative rise of the loss on held-out retain samples.
    pub fn limit(&self) -> f64 {
        let searches = match self.method {
            MethodName::Dampen => true,
            MethodName::Ssd | MethodName::SsdAuto => false,
            _ => self.training.searches(),
        };
        self.max_utility_loss.unwrap_or(if searches { 0.02 } else { 1.0 })
    }

    /// What of the gradients is the importance.
    pub fn kind(&self) -> Kind {
        match self.kind {
            None | Some(KindName::Fisher) => Kind::Fisher,
            Some(KindName::Abs) => Kind::Abs,
        }
    }

    /// What is chosen together.
    pub fn granularity(&self) -> Granularity {
        match self.granularity {
            None | Some(GranularityName::Element) => Granularity::Element,
            Some(GranularityName::Row) => Granularity::Row,
            Some(GranularityName::Column) => Granularity::Column,
            Some(GranularityName::Head) => Granularity::Head,
            Some(GranularityName::Tensor) => Granularity::Tensor,
        }
    }

    /// For each parameter of `model` whether it may change.
    ///
    /// # Errors
    /// When a pattern matches nothing, or nothing is left.
    pub fn allowed(&self, model: &Model) -> Result<Vec<bool>> {
        let mut allowed = vec![true; model.parameters.len()];
        if !self.only.is_empty() {
            allowed = names::select(model, &self.only)?;
        }
        for (allowed, skipped) in allowed.iter_mut().zip(names::select(model, &self.skip)?) {
            *allowed &= !skipped;
        }
        for (allowed, untouched) in allowed.iter_mut().zip(self.training.untouched(model)) {
            *allowed &= !untouched;
        }
        if !allowed.contains(&true) {
            return Err(Error::argument(
                "--only and --skip (and --retain-loss kl) leave no tensor that may be changed",
            ));
        }
        Ok(allowed)
    }

    /// The settings by name, for the report.
    pub fn settings(&self, width: usize) -> serde_json::Map<String, serde_json::Value> {
        let alpha = (self.method == MethodName::Ssd).then(|| self.alpha.unwrap_or(10.0));
        let dampens = matches!(self.method, MethodName::Dampen | MethodName::Ssd | MethodName::SsdAuto);
        let lambda = dampens.then(|| self.lambda.unwrap_or(1.0));
        let settings = serde_json::json!({
            "method": self.name(), "alpha": alpha, "lambda": lambda, "against": name(self.against.unwrap_or(AgainstName::Retain)),
            "dataset_size": self.dataset_size, "max_utility_loss": self.limit(), "granularity": name(self.granularity.unwrap_or(GranularityName::Element)),
            "kind": self.kind().name(), "combine": self.combine.map(|combine| combine.to_string()),
            "only": self.only, "skip": self.skip, "retain_fisher": self.retain_fisher,
        });
        let mut all = self.training.settings(self.method, width);
        all.extend(self.redirect.settings(self.method));
        if let Ok(Task::Heads(recipe)) = self.task(0) {
            all.extend(recipe.settings());
        }
        if let serde_json::Value::Object(settings) = settings {
            all.extend(settings);
        }
        all
    }

    /// The method's name.
    pub fn name(&self) -> String {
        name(self.method)
    }
}

/// What is said of a flag that another method takes.
pub fn belongs(flag: &str, of: &str, method: MethodName) -> Error {
    Error::argument(format!("--{flag} belongs to --method {of}, not to {}", name(method)))
}

/// `0.02` or `2%`.
pub fn share(text: &str) -> std::result::Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number.trim(), 0.01),
        None => (text, 1.0),
    };
    let value = number.parse::<f64>().map(|value| value * unit).ok();
    value
        .filter(|value| value.is_finite() && *value >= 0.0)
        .ok_or_else(|| format!("{text:?} is no share; right are for instance 0.02 and 2%"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_are_numbers_or_percentages() {
        assert_eq!(super::share("0.02"), Ok(0.02));
        assert_eq!(super::share("50%"), Ok(0.5));
        for wrong in ["", "%", "-1", "nan", "inf%", "2 percent"] {
            assert!(super::share(wrong).is_err(), "{wrong}");
        }
    }
}
