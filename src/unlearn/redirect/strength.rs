//! How much of a redirection is taken: a share of its change, or all of one with a larger ridge; judged by samples held out.

use std::cell::RefCell;
use std::sync::Arc;

use super::Redirection;
use super::weights::{Change, RedirectedWeights};
use crate::model::weights::WeightSource;
use crate::stream::Progress;
use crate::unlearn::methods::{FULL, Judge, Standing, Trial, search_scale};
use crate::{Error, Result};

/// The ridge of a strength s is that of the whole change divided by s to this power: then the harm is about the square of the
/// strength, from which the search begins (SmolLM2-135M: of the ridge it is the power −0.2 to −0.9).
const POWER: i32 = 4;

/// What is taken of a redirection.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The redirection.
    pub redirection: Redirection,
    /// The share of its changes.
    pub scale: f64,
    /// How the model stands with them.
    pub standing: Standing,
    /// All that was tried.
    pub trials: Vec<Trial>,
    /// The place among the trials of what is taken.
    pub chosen: Option<usize>,
}

/// Takes a share of a change: W + `scale` ΔW.
///
/// # Errors
/// When a pass fails.
pub fn share(
    judge: &Judge<'_>,
    base: &Arc<dyn WeightSource>,
    redirection: &Redirection,
    scale: f64,
    progress: Progress<'_>,
) -> Result<Taken> {
    let weights = |scale: f64| weights(judge, base, &redirection.changes, scale);
    let (scale, standing, trials) = search_scale(judge, &weights, (Some(scale), f64::INFINITY), progress)?;
    Ok(Taken { redirection: redirection.clone(), scale, standing, trials, chosen: Some(0) })
}

/// Takes all of a redirection whose harm is within the `limit`, or else one made `again` with so many times the ridge at the keys
/// that move, as [`search_scale`] finds it. A larger ridge leaves out first what harms most for what it brings; a share of the change
/// leaves out of everything alike. `first` is the ridge of the whole redirection, and that redirection.
///
/// # Errors
/// When a pass fails or a redirection cannot be made.
pub fn within(
    judge: &Judge<'_>,
    base: &Arc<dyn WeightSource>,
    first: (f64, &Redirection),
    again: &dyn Fn(f64) -> Result<Redirection>,
    limit: f64,
    progress: Progress<'_>,
) -> Result<Taken> {
    let times = |strength: f64| 1.0 / strength.powi(POWER);
    let made = RefCell::new(Vec::new());
    let attempt = |strength: f64| {
        let redirection = if strength == FULL { first.1.clone() } else { again(times(strength))? };
        let weights = weights(judge, base, &redirection.changes, FULL);
        made.borrow_mut().push(redirection);
        weights
    };
    let (strength, standing, mut trials) = search_scale(judge, &attempt, (None, limit), progress)?;
    let chosen = trials.iter().position(|trial| trial.scale == Some(strength));
    let redirection = chosen.and_then(|chosen| made.borrow().get(chosen).cloned());
    let redirection =
        redirection.ok_or_else(|| Error::Failed("the search of a redirection's strength tried nothing".into()))?;
    for trial in &mut trials {
        trial.ridge = trial.scale.map(|strength| first.0 * times(strength));
        trial.scale = Some(FULL);
    }
    Ok(Taken { redirection, scale: FULL, standing, trials, chosen })
}

fn weights(
    judge: &Judge<'_>,
    base: &Arc<dyn WeightSource>,
    changes: &[Arc<Change>],
    scale: f64,
) -> Result<Arc<dyn WeightSource>> {
    Ok(Arc::new(RedirectedWeights::new(base.clone(), judge.model, changes, scale)?))
}
