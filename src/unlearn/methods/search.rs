//! How strong a method should be: tried out, and judged by samples held out from both sets.
//!
//! A training is judged several times on its way. Where it is slow to remove anything, it is ended and begun again with three
//! times the learning rate, also where it harms already, for the harm comes first; where it got on and harms too much in the end,
//! with a third; and then with rates between the two. Where it gets on, it goes on, longer than was asked for if there are steps
//! left, since what it harmed at first it mostly repairs later; also when next to nothing is left, as long as that makes it better.
//! Of all points that were judged the best is kept: of those within the limit that leave next to nothing of what is to be forgotten
//! the one that harms least; where there is none, the one within the limit where what is left and what is harmed are the least
//! together. A task vector is learned once, and then only its length is searched.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::judge::{Judge, Standing};
use super::task_vector::ScaledWeights;
use super::tune::{AfterStep, Sets, TuneOptions, tune};
use crate::model::weights::WeightSource;
use crate::stream::Progress;
use crate::unlearn::train::{Trainable, TrainedWeights};
use crate::{Error, Result};

/// Forgotten: at most this share of the probability is left.
pub const FORGOTTEN: f64 = 0.02;
/// Steps that all trials take together, at most, in units of the steps asked for.
const ALL_STEPS: usize = 5;
/// Learning rates that are tried, at most.
const TRIALS: usize = 6;
/// Half-way through the steps asked for, a training that leaves more than this is slow.
const SLOW: f64 = 0.5;
/// Looks without anything better after which a training that has had the steps asked for is not worth going on with.
const PATIENCE: usize = 3;
/// The same once next to nothing is left.
const ENOUGH: usize = 2;
/// What lies between one learning rate and the next.
const FACTOR: f32 = 3.0;
/// How often a training is judged.
const LOOKS: usize = 8;
/// A training that harms so many times more than is allowed is not worth going on with.
const HOPELESS: f64 = 8.0;
/// The first length of a task vector that is tried.
const FIRST_SCALE: f64 = 0.25;
/// The longest.
const LONGEST_SCALE: f64 = 16.0;
/// How often the interval of lengths is halved.
const HALVINGS: usize = 4;

/// How strong a method is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strength {
    /// As the options say: the learning rate and all steps; a task vector's scale.
    Given {
        /// How far to go the other way; none: it is no task vector.
        scale: Option<f64>,
    },
    /// Found by a search.
    Search {
        /// Whether it is a task vector whose scale is searched, or a training.
        task_vector: bool,
        /// The largest rise of the loss on what is to be kept: see [`LossChange::rise`](crate::unlearn::forget::LossChange::rise).
        limit: f64,
    },
}

impl Strength {
    /// How many steps a training may have that is asked for with `steps`.
    pub fn most_steps(self, steps: usize) -> usize {
        match self {
            Strength::Search { task_vector: false, .. } => steps.saturating_mul(ALL_STEPS),
            _ => steps,
        }
    }
}

/// Whom a search tells what.
pub struct Told<'a> {
    /// How far it has come.
    pub progress: Progress<'a>,
    /// How many seconds it will take at most, after the first step.
    pub estimate: &'a dyn Fn(f64),
}

impl std::fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

/// A point that was judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The learning rate.
    pub learning_rate: f32,
    /// After so many steps.
    pub step: usize,
    /// The share of a change that is taken, or a multiple of a task vector.
    pub scale: Option<f64>,
    /// The ridge at the keys of a redirection that move, where it is searched.
    pub ridge: Option<f64>,
    /// The share that is left of the probability of what is to be forgotten, in the form with the most left.
    pub kept: f64,
    /// The relative rise of the loss on what is to be kept.
    pub rise: f64,
}

/// What a search found.
pub struct Found {
    /// The weights of the best point.
    pub weights: Arc<dyn WeightSource>,
    /// How they stand.
    pub standing: Standing,
    /// All points, in the order in which they were judged.
    pub trials: Vec<Trial>,
    /// The best one's place among them.
    pub chosen: usize,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found").field("standing", &self.standing).field("trials", &self.trials).finish_non_exhaustive()
    }
}

/// Trains, with the strength given or searched.
///
/// # Errors
/// When an option is wrong, the device failed, or no learning rate gives finite losses.
pub fn search(
    judge: &Judge<'_>,
    base: &Arc<dyn WeightSource>,
    sets: &Sets,
    mask: &[Trainable],
    options: &TuneOptions,
    strength: Strength,
    told: &Told<'_>,
) -> Result<Found> {
    let mut search = Search { judge, base, sets, mask, options, told, points: Points::default() };
    match strength {
        Strength::Given { scale } => search.given(scale)?,
        Strength::Search { task_vector: false, limit } => search.rates(limit)?,
        Strength::Search { task_vector: true, limit } => search.scales(limit)?,
    }
    let Points { trials, best } = search.points;
    let (chosen, standing, weights) = best.ok_or_else(|| Error::Failed("no training was judged".into()))?;
    Ok(Found { weights, standing, trials, chosen })
}

/// What was judged so far, and the best of it.
#[derive(Default)]
struct Points {
    trials: Vec<Trial>,
    best: Option<(usize, Standing, Arc<dyn WeightSource>)>,
}

/// The order of points: the least is the best.
fn rank(trial: &Trial, limit: f64) -> (u8, f64) {
    match (trial.rise <= limit, trial.kept <= FORGOTTEN) {
        (true, true) => (0, trial.rise),
        (true, false) => (1, trial.kept + trial.rise.max(0.0)),
        _ => (2, trial.rise),
    }
}

/// How far a training has come, the least is the furthest: as [`rank`], but while the harm is beyond the limit, which is mostly
/// repaired later, what is left counts too.
fn gain(trial: &Trial, limit: f64) -> (u8, f64) {
    match rank(trial, limit) {
        (2, rise) => (2, trial.kept + rise),
        within => within,
    }
}

struct Search<'a> {
    judge: &'a Judge<'a>,
    base: &'a Arc<dyn WeightSource>,
    sets: &'a Sets,
    mask: &'a [Trainable],
    options: &'a TuneOptions,
    told: &'a Told<'a>,
    points: Points,
}

impl Search<'_> {
    /// Judges a point and keeps it if it is the best so far.
    fn look(&mut self, at: (f32, usize, Option<f64>), weights: Arc<dyn WeightSource>, limit: f64) -> Result<Trial> {
        let standing = self.judge.standing(weights.clone(), &|_, _| {})?;
        let (learning_rate, step, scale) = at;
        let (kept, rise) = (standing.kept, self.judge.rise(standing));
        let trial = Trial { learning_rate, step, scale, ridge: None, kept, rise };
        let points = &mut self.points;
        let better = match &points.best {
            Some((best, ..)) => rank(&trial, limit) < rank(&points.trials[*best], limit),
            None => true,
        };
        if better {
            points.best = Some((points.trials.len(), standing, weights));
        }
        points.trials.push(trial);
        Ok(trial)
    }

    fn train(&self, learning_rate: f32, after: &mut AfterStep<'_>) -> Result<Arc<TrainedWeights>> {
        let options = TuneOptions { learning_rate, ..*self.options };
        let judge = self.judge;
        tune(judge.device, judge.model, self.base.clone(), self.sets, self.mask, &options, after)
    }

    /// The training as it is asked for.
    fn given(&mut self, scale: Option<f64>) -> Result<()> {
        let (rate, steps) = (self.options.learning_rate, self.options.steps);
        let trained = self.train(rate, &mut |report, _| {
            (self.told.progress)(report.step as u64, steps as u64);
            Ok(ControlFlow::Continue(()))
        })?;
        let weights: Arc<dyn WeightSource> = match scale {
            Some(scale) => Arc::new(ScaledWeights::new(self.base.clone(), trained, scale)),
            None => trained,
        };
        self.look((rate, steps, scale), weights, f64::INFINITY)?;
        Ok(())
    }

    /// The learning rates.
    fn rates(&mut self, limit: f64) -> Result<()> {
        let mut rate = self.options.learning_rate;
        // The highest rate that removes too little, and the lowest that harms too much.
        let (mut low, mut high) = (None, None);
        let mut failure = None;
        let mut left = self.options.steps.saturating_mul(ALL_STEPS);
        for _ in 0..TRIALS {
            if left < self.options.steps.div_ceil(2) {
                break;
            }
            match self.trial(rate, limit, &mut left) {
                Ok(Ending::Done) => return Ok(()),
                Ok(Ending::TooLittle) => low = Some(rate),
                Ok(Ending::Harmed) => high = Some(rate),
                // A loss that is no number: smaller steps may have one.
                Err(Error::Failed(reason)) => (failure, high) = (Some(reason), Some(rate)),
                Err(error) => return Err(error),
            }
            rate = match (low, high) {
                (Some(low), Some(high)) => (low * high).sqrt(),
                (_, None) => rate * FACTOR,
                (None, _) => rate / FACTOR,
            };
        }
        failure.filter(|_| self.points.best.is_none()).map_or(Ok(()), |reason| Err(Error::Failed(reason)))
    }

    /// A training with one learning rate, of at most `left` steps, from which those it takes are taken.
    fn trial(&mut self, rate: f32, limit: f64, left: &mut usize) -> Result<Ending> {
        let steps = self.options.steps;
        let all = steps.saturating_mul(ALL_STEPS);
        let every = steps.div_ceil(LOOKS);
        let (told, judge) = (self.told, self.judge);
        let (base, sets, mask) = (self.base.clone(), self.sets, self.mask);
        let options = TuneOptions { learning_rate: rate, steps: *left, ..*self.options };
        let (started, before) = (Instant::now(), all - *left);
        let mut ending = Ending::TooLittle;
        let (mut best, mut without_gain) = ((u8::MAX, f64::INFINITY), 0);
        let done = tune(judge.device, judge.model, base, sets, mask, &options, &mut |report, weights| {
            let step = report.step;
            *left -= 1;
            if before == 0 && step == 1 {
                let looks = all.div_ceil(every) as f64 * judge.seconds;
                (told.estimate)(all as f64 * started.elapsed().as_secs_f64() + looks);
            }
            (told.progress)((before + step) as u64, all as u64);
            if step % every != 0 && *left > 0 {
                return Ok(ControlFlow::Continue(()));
            }
            let trial = self.look((rate, step, None), Arc::new(weights.snapshot()), limit)?;
            let gained = gain(&trial, limit);
            without_gain = if gained < best { 0 } else { without_gain + 1 };
            best = if gained < best { gained } else { best };
            let hopeless = trial.rise > HOPELESS * limit.max(0.01);
            let slow = step >= steps.div_ceil(2) && trial.kept > SLOW;
            // What is slow is still on its way through the harm that comes first: a smaller rate would be slower.
            ending = if trial.rise <= limit || (slow && !hopeless) { Ending::TooLittle } else { Ending::Harmed };
            let stalled = step >= steps && without_gain >= PATIENCE;
            // What is forgotten stays so for the most part, while what was harmed on the way is repaired.
            let repaired = best.0 == 0 && without_gain >= ENOUGH;
            let over = repaired || hopeless || slow || stalled;
            Ok(if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        done.map(|_| if best.0 == 0 { Ending::Done } else { ending })
    }

    /// The lengths of a task vector.
    fn scales(&mut self, limit: f64) -> Result<()> {
        let (rate, steps) = (self.options.learning_rate, self.options.steps);
        let doublings = (LONGEST_SCALE / FIRST_SCALE).log2() as usize + 1;
        let looks = doublings + HALVINGS;
        let (told, judge) = (self.told, self.judge);
        let started = Instant::now();
        let learned = self.train(rate, &mut |report, _| {
            if report.step == 1 {
                (told.estimate)(steps as f64 * started.elapsed().as_secs_f64() + looks as f64 * judge.seconds);
            }
            (told.progress)(report.step as u64, (steps + looks) as u64);
            Ok(ControlFlow::Continue(()))
        })?;
        let mut done = steps;
        let mut look = |scale: f64| {
            let weights = Arc::new(ScaledWeights::new(self.base.clone(), learned.clone(), scale));
            let trial = self.look((rate, steps, Some(scale)), weights, limit)?;
            done += 1;
            (told.progress)(done as u64, (steps + looks) as u64);
            Result::Ok(trial)
        };
        let (mut good, mut bad) = (0.0, None);
        let mut scale = FIRST_SCALE;
        while scale <= LONGEST_SCALE {
            let trial = look(scale)?;
            if trial.rise > limit {
                bad = Some(scale);
                break;
            }
            good = scale;
            if trial.kept <= FORGOTTEN {
                return Ok(());
            }
            scale *= 2.0;
        }
        let Some(mut bad) = bad else { return Ok(()) };
        for _ in 0..HALVINGS {
            let middle = (good + bad) / 2.0;
            let trial = look(middle)?;
            match trial.rise <= limit {
                true if trial.kept <= FORGOTTEN => return Ok(()),
                true => good = middle,
                false => bad = middle,
            }
        }
        Ok(())
    }
}

/// How a training ended.
enum Ending {
    /// Nearly everything is forgotten, and the rest is intact.
    Done,
    /// It harms more than is allowed.
    Harmed,
    /// Something is left.
    TooLittle,
}
