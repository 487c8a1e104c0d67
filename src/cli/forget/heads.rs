//! Choosing attention heads by their effect: flags and data in, an edit out.

use std::sync::Arc;

use efface::model::Stage;
use efface::model::batch::Tokens;
use efface::model::weights::WeightSource;
use efface::random::Random;
use efface::report::format;
use efface::stream::{CheckpointWeights, Labels};
use efface::unlearn::forget::Outcome;
use efface::unlearn::heads::{Options, ScaledHeads, output_projections, rank, select};
use efface::unlearn::measured::Measured;
use efface::unlearn::methods::{EditedWeights, Judge, search_scale};
use efface::unlearn::selection::LogRatioHistogram;
use efface::unlearn::train::Trainable;
use efface::{Error, Result};

use super::settings::{MethodName, belongs};
use super::train::{complement, everything, judges, mend, options};
use super::{Decided, Phases, Run, Set, measured};

/// Samples of each set that heads are tried on, at most.
const SAMPLES: usize = 24;

/// How heads are chosen.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Heads (heads)")]
pub struct HeadsArgs {
    /// How many heads are tried: those whose part of the output projection the forget set needs most, also against the retain
    /// set [default: 24].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    candidates: Option<u32>,
    /// Rounds, at most; each tries every candidate beside the heads chosen so far [default: 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Heads that a round adds, at most [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    heads_per_round: Option<u32>,
    /// How far a head's attention map is pulled towards the identity while it is tried, up to 1 [default: 0.5].
    #[arg(long, value_name = "U", allow_negative_numbers = true)]
    knob: Option<f64>,
}

/// What choosing heads takes.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Heads that are tried.
    pub candidates: usize,
    /// How they are chosen.
    pub options: Options,
    /// How much of them is taken; none: searched.
    pub strength: Option<f64>,
}

impl HeadsArgs {
    /// Finds flags that were given for another method.
    ///
    /// # Errors
    /// When there is one.
    pub fn check(&self, method: MethodName) -> Result<()> {
        let given = [
            ("candidates", self.candidates.is_some()),
            ("rounds", self.rounds.is_some()),
            ("heads-per-round", self.heads_per_round.is_some()),
            ("knob", self.knob.is_some()),
        ];
        match given.iter().find(|(_, given)| *given && method != MethodName::Heads) {
            Some((flag, _)) => Err(belongs(flag, "heads", method)),
            None => Ok(()),
        }
    }

    /// What is to be done.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn recipe(&self, retain_weight: f64, strength: Option<f64>) -> Result<Recipe> {
        let knob = self.knob.unwrap_or(0.5);
        if !(knob > 0.0 && knob <= 1.0) {
            return Err(Error::argument(format!("--knob is a number above 0 and up to 1, not {knob}")));
        }
        if !(retain_weight.is_finite() && retain_weight >= 0.0) {
            return Err(Error::argument(format!("--retain-weight is a number from 0, not {retain_weight}")));
        }
        let number = |given: Option<u32>, default: usize| given.map_or(default, |n| n as usize);
        let (rounds, per_round) = (number(self.rounds, 4), number(self.heads_per_round, 1));
        let options = Options { knob, rounds, per_round, retain_weight };
        Ok(Recipe { candidates: number(self.candidates, 24), options, strength })
    }
}

impl Recipe {
    /// The settings by name, for the report.
    pub fn settings(&self) -> serde_json::Map<String, serde_json::Value> {
        let Options { knob, rounds, per_round, retain_weight } = self.options;
        let values: [(&str, serde_json::Value); 6] = [
            ("candidates", self.candidates.into()),
            ("rounds", rounds.into()),
            ("heads_per_round", per_round.into()),
            ("knob", knob.into()),
            ("retain_weight", retain_weight.into()),
            ("strength", self.strength.into()),
        ];
        values.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// Device memory that the knobs take, in bytes, at most.
    pub fn device_bytes(&self, run: &Run<'_>) -> u64 {
        let heads = run.input.model.stages.iter().map(|stage| match stage {
            Stage::Attention(block) => block.heads.heads,
            _ => 0,
        });
        ((self.candidates + 1) * heads.max().unwrap_or(0) * 4) as u64
    }
}

/// Measures which heads are worth trying, chooses among them, takes what they add out as far as it is allowed, and repairs what
/// that harms where it is asked for.
pub fn decide(run: &Run<'_>, recipe: &Recipe, cached: Option<Measured>, phases: &mut Phases) -> Result<Decided> {
    let Run { args, input, device, data, allowed, .. } = *run;
    let (model, common, limit) = (&input.model, &args.common, args.choosing.limit());
    let outputs = wanted(run)?;
    let narrow = Run { allowed: &outputs, ..*run };
    let forget = measured(&narrow, phases, Set::Forget)?;
    let retain = match cached {
        Some(retain) => retain,
        None => measured(&narrow, phases, Set::Retain)?,
    };
    let mut candidates = rank(model, (&forget, &retain), &outputs)?;
    candidates.truncate(recipe.candidates);
    drop((forget, retain));

    let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(input.checkpoint.clone()));
    let judges = judges(run);
    let judge = phases
        .run(common, "judging before", |tick| Judge::new(device, model, base.clone(), &judges, options(run), tick))?;
    let tried =
        (draw(&data.forgotten(false), common.seed, "forget"), draw(&data.retained(false), common.seed, "retain"));
    let tokens = |samples: &[Arc<Tokens>]| samples.iter().map(|sample| sample.ids.len()).sum::<usize>();
    let once = (tokens(&tried.0) + tokens(&tried.1)) as f64;
    let judged = (tokens(&judges.forget) + tokens(&judges.held_out)) as f64;
    let passes = recipe.options.rounds * (candidates.len() + 1);
    common.note(&format!(
        "trying heads takes about {}: up to {} of {} on {}",
        format::seconds(judge.seconds * passes as f64 * once / judged),
        format::counted(recipe.options.rounds as u64, "round"),
        format::counted(candidates.len() as u64, "head"),
        format::counted((tried.0.len() + tried.1.len()) as u64, "sample"),
    ));
    let pass = input.pass(device, common, None, Labels::Data)?;
    let selected = phases
        .run(common, "trying heads", |tick| select(&pass, &candidates, (&tried.0, &tried.1), &recipe.options, tick))?;
    let mut outcome = Outcome::new(LogRatioHistogram::new());
    outcome.heads = selected.trials;
    if selected.heads.is_empty() {
        outcome.refused = Some(format!(
            "no head helps: pulling none of the {} that were tried raises the loss on the forget set by more than {} times \
             that on the retain set (more --candidates, another --knob or a lower --retain-weight may find one)",
            candidates.len(),
            recipe.options.retain_weight
        ));
        return Ok(Decided { outcome, edit: None });
    }
    for head in &selected.heads {
        common.detail(&format!("layer {}, head {}", head.layer, head.head));
    }
    let weights = |strength: f64| -> Result<Arc<dyn WeightSource>> {
        Ok(Arc::new(ScaledHeads::new(base.clone(), model, &selected.heads, strength)?))
    };
    let (scale, mut standing, trials) =
        phases.run(common, "judging", |tick| search_scale(&judge, &weights, (recipe.strength, limit), tick))?;
    outcome.chosen = trials.iter().position(|trial| trial.scale == Some(scale));
    outcome.trials = trials;
    let scaled = Arc::new(ScaledHeads::new(base.clone(), model, &selected.heads, scale)?);
    let mut selected: Vec<u64> = scaled.selected(model).into_iter().map(|(count, _)| count).collect();
    let mut weights: Arc<dyn WeightSource> = scaled.clone();
    if let Some(repair) = args.choosing.training.repair()? {
        // What was scaled stays scaled.
        let all = everything(run);
        let own = scaled.selected(model).into_iter().zip(&model.parameters);
        let rest = own.zip(&all.trainable).map(|(((_, mask), parameter), trainable)| match mask {
            Some(mask) if *trainable == Trainable::All => Trainable::Bits(complement(mask, parameter.count())),
            _ => trainable.clone(),
        });
        let rest: Vec<Trainable> = rest.collect();
        (weights, standing) = mend(run, &judge, (weights, standing), &rest, repair, &mut outcome, phases)?;
        selected = allowed.iter().zip(&model.parameters).map(|(a, p)| if *a { p.count() as u64 } else { 0 }).collect();
    }
    (outcome.forget, outcome.held_out) = (Some(judge.forget(standing)), Some(judge.held_out(standing)));
    outcome.judge(limit, recipe.strength.is_none());
    let edit = EditedWeights { model: model.clone(), weights, selected };
    Ok(Decided { outcome, edit: Some(Box::new(edit)) })
}

/// For each parameter whether it is an output projection that may change.
fn wanted(run: &Run<'_>) -> Result<Vec<bool>> {
    let outputs = output_projections(&run.input.model, run.allowed);
    match outputs.contains(&true) {
        true => Ok(outputs),
        false => Err(Error::argument(
            "--method heads changes attention's output projections, of which --only and --skip leave none",
        )),
    }
}

/// Finds out before the work whether there is a head that may change.
///
/// # Errors
/// When there is none.
pub fn check(run: &Run<'_>) -> Result<()> {
    wanted(run).map(drop)
}

/// Some of the samples.
fn draw(samples: &[Arc<Tokens>], seed: u64, of: &str) -> Vec<Arc<Tokens>> {
    let order = Random::new(seed, &format!("samples that heads are tried on, {of}")).order(samples.len());
    order.into_iter().take(SAMPLES).map(|i| samples[i].clone()).collect()
}
