//! Flags of the methods that train, and of the repair.

use clap::ValueEnum;

use efface::model::{Model, Stage};
use efface::unlearn::methods::{Goal, RetainLoss, Score, Strength};
use efface::{Error, Result};

use super::super::measure::name;
use super::recipe::{Answers, MaskBy, Recipe, Repair};
use super::settings::{MethodName, belongs, share};

/// Steps of a training, unless they are given.
const STEPS: usize = 60;
/// Steps in which a task vector is learned.
const LEARNING_STEPS: usize = 20;
/// Samples of each set in a step.
const BATCH: usize = 16;
/// What refusals say where nothing else is asked for.
const REFUSALS: [&str; 4] =
    ["I don't know.", "I do not know the answer to that.", "I'm not sure.", "I have no information about that."];

/// How a removal is trained.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Training (graddiff, npo, simnpo, refusal, salun, wagle, task-vector)")]
pub struct TrainingArgs {
    /// Search the strength: repeat the training with other learning rates (task-vector: try lengths), judge it by samples held
    /// out from both sets, and keep the best within --max-utility-loss [default: unless --steps, --learning-rate or
    /// --strength is given]. With --steps the search takes five times as many steps at most.
    #[arg(long, conflicts_with_all = ["learning_rate", "strength"])]
    auto: bool,
    /// By what the trained weights are chosen [default: ratio; salun and wagle have their own].
    #[arg(long, value_enum)]
    mask: Option<MaskName>,
    /// The share of the weights that is trained, in percent or as a number up to 1 [default: 10%; salun 50%, wagle 80%].
    #[arg(long, value_name = "SHARE", value_parser = share, allow_hyphen_values = true)]
    mask_share: Option<f64>,
    /// wagle: what is done under its mask [default: npo].
    #[arg(long, value_enum)]
    objective: Option<ObjectiveName>,
    /// wagle: the curvature that the retain set's gradient is divided by [default: the mean of its Fisher diagonal].
    #[arg(long, value_name = "MU", allow_negative_numbers = true)]
    mu: Option<f64>,
    /// Steps of the training [default: 60; task-vector 20].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// The learning rate, which a search begins with [default: 0.6 divided by the model's width (hidden_size); task-vector 2e-4].
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    learning_rate: Option<f32>,
    /// Samples of each set in a step [default: 16].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// What the retain set's loss counts for, against the forget set's [default: 4; refusal, salun and heads 1].
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    pub retain_weight: Option<f64>,
    /// What is wanted of the retain set [default: cross-entropy].
    #[arg(long, value_enum)]
    retain_loss: Option<RetainLossName>,
    /// npo, simnpo: how fast the ascent fades [default: 0.1; simnpo 2.5].
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    beta: Option<f64>,
    /// simnpo: the mean loss at which the ascent has faded to a half [default: 0].
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    delta: Option<f64>,
    /// refusal: what is answered instead; may be repeated, then one is drawn for each sample [default: four ways to say "I
    /// don't know"].
    #[arg(long, value_name = "TEXT")]
    refusal: Vec<String>,
    /// task-vector: how far to go the other way, as a multiple of what was learned. redirect, heads: which share of the change
    /// is taken, up to 1.
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    strength: Option<f64>,
    /// Afterwards train on the retain set, for so many steps at most (40 if no number is given), without raising the forgotten
    /// answers again: what the method trained, or, where it dampens, what it left alone. redirect takes all of its change then, if that is enough.
    #[arg(long, value_name = "STEPS", num_args = 0..=1, default_missing_value = "40",
        value_parser = clap::value_parser!(u32).range(1..))]
    recalibrate: Option<u32>,
    /// The learning rate of --recalibrate [default: 0.03 divided by the model's width].
    #[arg(long, value_name = "RATE", requires = "recalibrate", allow_negative_numbers = true)]
    recalibrate_rate: Option<f32>,
}

/// `--mask`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MaskName {
    /// The highest F_forget / F.
    Ratio,
    /// The largest gradients of the forget set.
    Gradient,
    /// The highest |(θ − g_retain / μ) · g_forget|.
    Wagle,
    /// None: all weights are trained.
    All,
}

/// `--objective`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ObjectiveName {
    /// The forget set's loss rises.
    Graddiff,
    /// The same, fading as the set gets less likely than it was.
    Npo,
}

/// `--retain-loss`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RetainLossName {
    /// That its answers are predicted.
    CrossEntropy,
    /// That the model's distributions stay what they were (KL divergence from the old model). The final norm and the head
    /// are left alone, and with them a tied embedding.
    Kl,
}

impl TrainingArgs {
    /// Whether a method that trains has its strength searched.
    pub fn searches(&self) -> bool {
        self.auto || (self.steps.is_none() && self.learning_rate.is_none() && self.strength.is_none())
    }

    /// For each parameter of `model` whether training may not change it.
    pub fn untouched(&self, model: &Model) -> Vec<bool> {
        let mut untouched = vec![false; model.parameters.len()];
        if let (Some(RetainLossName::Kl), Some(head @ Stage::Head(_))) = (self.retain_loss, model.stages.last()) {
            head.parameters().into_iter().for_each(|id| untouched[id] = true);
        }
        untouched
    }

    /// The flags that only some methods take, with these methods' names.
    fn foreign(&self, method: MethodName) -> Result<()> {
        use MethodName::{Dampen, Heads, Npo, Redirect, Refusal, Salun, Simnpo, TaskVector, Wagle};
        let trains = method.trains();
        let npo = method == Npo || method == Wagle && self.objective != Some(ObjectiveName::Graddiff);
        let learns = "a method that trains";
        let scales = matches!(method, TaskVector | Redirect | Heads);
        let flags = [
            (
                "auto",
                self.auto,
                trains || matches!(method, Dampen | Heads | Redirect),
                "dampen, heads, redirect or a method that trains",
            ),
            ("mask", self.mask.is_some(), trains && method != Salun && method != Wagle, "graddiff, npo, ..."),
            ("mask-share", self.mask_share.is_some(), trains && self.mask != Some(MaskName::All), "one with a mask"),
            ("objective", self.objective.is_some(), method == Wagle, "wagle"),
            ("mu", self.mu.is_some(), method == Wagle || self.mask == Some(MaskName::Wagle), "wagle"),
            ("steps", self.steps.is_some(), trains, learns),
            ("learning-rate", self.learning_rate.is_some(), trains, learns),
            ("batch", self.batch.is_some(), trains || self.recalibrate.is_some(), learns),
            (
                "retain-weight",
                self.retain_weight.is_some(),
                trains && method != TaskVector || method == Heads,
                "heads or a method that trains",
            ),
            ("retain-loss", self.retain_loss.is_some(), trains && method != TaskVector, learns),
            ("beta", self.beta.is_some(), npo || method == Simnpo, "npo or simnpo"),
            ("delta", self.delta.is_some(), method == Simnpo, "simnpo"),
            ("refusal", !self.refusal.is_empty(), method == Refusal, "refusal"),
            ("strength", self.strength.is_some(), scales, "task-vector, redirect or heads"),
        ];
        match flags.iter().find(|(_, given, own, _)| *given && !own) {
            Some((flag, .., of)) => Err(belongs(flag, of, method)),
            None => Ok(()),
        }
    }

    /// What a method that trains does; none for one that dampens.
    ///
    /// # Errors
    /// When a flag belongs to another method or is out of range.
    pub fn recipe(&self, method: MethodName) -> Result<Option<Recipe>> {
        self.foreign(method)?;
        let npo = Goal::Npo { beta: self.beta.unwrap_or(0.1) };
        let (goal, answers) = match method {
            _ if !method.trains() => return Ok(None),
            MethodName::Graddiff => (Goal::Difference, Answers::Own),
            MethodName::Npo => (npo, Answers::Own),
            MethodName::Simnpo => {
                let (beta, delta) = (self.beta.unwrap_or(2.5), self.delta.unwrap_or(0.0));
                (Goal::SimNpo { beta, delta }, Answers::Own)
            }
            MethodName::Refusal => (Goal::Learn, Answers::Refused(self.refusals())),
            MethodName::Salun => (Goal::Learn, Answers::Swapped),
            MethodName::Wagle if self.objective == Some(ObjectiveName::Graddiff) => (Goal::Difference, Answers::Own),
            MethodName::Wagle => (npo, Answers::Own),
            _ => (Goal::Learn, Answers::Own),
        };
        let task_vector = method == MethodName::TaskVector;
        let strength =
            (!self.searches()).then(|| Strength::Given { scale: task_vector.then(|| self.strength.unwrap_or(1.0)) });
        let recipe = Recipe {
            mask: self.mask(method),
            share: self.mask_share.unwrap_or(match method {
                MethodName::Salun => 0.5,
                MethodName::Wagle => 0.8,
                _ => 0.1,
            }),
            goal,
            answers,
            steps: self.steps.map_or(if task_vector { LEARNING_STEPS } else { STEPS }, |steps| steps as usize),
            batch: self.batch(),
            learning_rate_given: self.learning_rate,
            retain_weight: match method {
                MethodName::TaskVector => 0.0,
                MethodName::Refusal | MethodName::Salun => self.retain_weight.unwrap_or(1.0),
                _ => self.retain_weight.unwrap_or(4.0),
            },
            retain_loss: match self.retain_loss {
                Some(RetainLossName::Kl) => RetainLoss::Divergence,
                Some(RetainLossName::CrossEntropy) | None => RetainLoss::CrossEntropy,
            },
            strength,
            task_vector,
        };
        self.check(&recipe)?;
        Ok(Some(recipe))
    }

    /// Finds what is out of range.
    fn check(&self, recipe: &Recipe) -> Result<()> {
        let wrong = |flag: &str, right: &str, given: f64| {
            Err(Error::argument(format!("--{flag} is a number {right}, not {given}")))
        };
        let above = |value: f64| value.is_finite() && value > 0.0;
        if !(above(recipe.share) && recipe.share <= 1.0) {
            return wrong("mask-share", "above 0 and up to 1 (100%)", recipe.share);
        }
        if let Some(rate) = recipe.learning_rate_given.map(f64::from).filter(|rate| !above(*rate)) {
            return wrong("learning-rate", "above 0", rate);
        }
        if !(recipe.retain_weight.is_finite() && recipe.retain_weight >= 0.0) {
            return wrong("retain-weight", "from 0", recipe.retain_weight);
        }
        for (flag, value) in [("beta", self.beta), ("mu", self.mu), ("strength", self.strength)] {
            if let Some(value) = value.filter(|value| !above(*value)) {
                return wrong(flag, "above 0", value);
            }
        }
        match self.delta.filter(|delta| !delta.is_finite()) {
            Some(delta) => wrong("delta", "that is finite", delta),
            None => Ok(()),
        }
    }

    fn mask(&self, method: MethodName) -> MaskBy {
        let wagle = MaskBy::Score(Score::Wagle { curvature: self.mu });
        match (method, self.mask) {
            (MethodName::Salun, _) | (_, Some(MaskName::Gradient)) => MaskBy::Score(Score::Gradient),
            (MethodName::Wagle, _) | (_, Some(MaskName::Wagle)) => wagle,
            (_, Some(MaskName::All)) => MaskBy::All,
            (_, None | Some(MaskName::Ratio)) => MaskBy::Ratio,
        }
    }

    fn batch(&self) -> usize {
        self.batch.map_or(BATCH, |batch| batch as usize)
    }

    fn refusals(&self) -> Vec<String> {
        if self.refusal.is_empty() { REFUSALS.map(String::from).to_vec() } else { self.refusal.clone() }
    }

    /// The share of a change that is given to a redirection or to heads; none: searched.
    ///
    /// # Errors
    /// When it is out of range.
    pub fn share_strength(&self) -> Result<Option<f64>> {
        match self.strength {
            Some(strength) if !(strength > 0.0 && strength <= 1.0) => {
                Err(Error::argument(format!("--strength of redirect and heads is above 0 and up to 1, not {strength}")))
            }
            strength => Ok(strength),
        }
    }

    /// Whether a repair is asked for.
    pub fn repairs(&self) -> bool {
        self.recalibrate.is_some()
    }

    /// The repair, where one is asked for.
    ///
    /// # Errors
    /// When its learning rate is out of range.
    pub fn repair(&self) -> Result<Option<Repair>> {
        let Some(steps) = self.recalibrate else { return Ok(None) };
        if let Some(rate) = self.recalibrate_rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return Err(Error::argument(format!("--recalibrate-rate is a number above 0, not {rate}")));
        }
        Ok(Some(Repair { steps: steps as usize, batch: self.batch(), learning_rate_given: self.recalibrate_rate }))
    }

    /// The settings by name, for the report on a model of this width.
    pub fn settings(&self, method: MethodName, width: usize) -> serde_json::Map<String, serde_json::Value> {
        let mut settings = serde_json::Map::new();
        let mut add = |name: &str, value: serde_json::Value| settings.insert(name.into(), value);
        if let Ok(Some(recipe)) = self.recipe(method) {
            add("search", recipe.strength.is_none().into());
            add("mask", mask_name(recipe.mask).into());
            add("mask_share", (recipe.mask != MaskBy::All).then_some(recipe.share).into());
            add("steps", recipe.steps.into());
            add("batch", recipe.batch.into());
            add("learning_rate", f64::from(recipe.learning_rate(width)).into());
            add("retain_weight", recipe.retain_weight.into());
            add("retain_loss", name(self.retain_loss.unwrap_or(RetainLossName::CrossEntropy)).into());
            if let Goal::Npo { beta } | Goal::SimNpo { beta, .. } = recipe.goal {
                add("beta", beta.into());
            }
            if let Goal::SimNpo { delta, .. } = recipe.goal {
                add("delta", delta.into());
            }
            if let Answers::Refused(texts) = recipe.answers {
                add("refusals", texts.into());
            }
            if let Some(Strength::Given { scale: Some(scale) }) = recipe.strength {
                add("strength", scale.into());
            }
            if let MaskBy::Score(Score::Wagle { curvature }) = recipe.mask {
                add("mu", curvature.into());
            }
        }
        if let Ok(Some(repair)) = self.repair() {
            add("recalibrate", repair.steps.into());
            add("recalibrate_rate", f64::from(repair.learning_rate(width)).into());
        }
        settings
    }
}

fn mask_name(mask: MaskBy) -> String {
    name(match mask {
        MaskBy::Ratio => MaskName::Ratio,
        MaskBy::Score(Score::Gradient) => MaskName::Gradient,
        MaskBy::Score(Score::Wagle { .. }) => MaskName::Wagle,
        MaskBy::All => MaskName::All,
    })
}
