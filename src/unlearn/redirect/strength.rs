//! How much of a change is taken: tried out, and judged by samples held out.

use std::sync::Arc;

use super::weights::{Change, RedirectedWeights};
use crate::Result;
use crate::model::weights::WeightSource;
use crate::stream::Progress;
use crate::unlearn::methods::{FORGOTTEN, Judge, Standing, Trial};

/// All of it.
pub const FULL: f64 = 1.0;
/// How often the interval of strengths is halved.
const HALVINGS: u64 = 4;

/// Finds the strength in (0, 1]: all of it where that is within the `limit`; otherwise the largest of those tried that are, by
/// halving the interval; where none is, the weakest. `given`: only this one is judged. Strengths are told as a trial's `scale`.
///
/// # Errors
/// When a pass fails.
pub fn search(
    judge: &Judge<'_>,
    base: &Arc<dyn WeightSource>,
    changes: &[Arc<Change>],
    (given, limit): (Option<f64>, f64),
    progress: Progress<'_>,
) -> Result<(f64, Standing, Vec<Trial>)> {
    let total = if given.is_some() { 1 } else { 1 + HALVINGS };
    let mut trials = Vec::new();
    let attempt = |scale: f64, trials: &mut Vec<Trial>| {
        let step = trials.len() as u64;
        let tick = |done: u64, of: u64| progress(step * of + done, total * of);
        let weights = RedirectedWeights::new(base.clone(), judge.model, changes, scale);
        let standing = judge.standing(Arc::new(weights), &tick)?;
        let (kept, rise) = (judge.kept(standing), judge.rise(standing));
        trials.push(Trial { learning_rate: 0.0, step: 0, scale: Some(scale), kept, rise });
        Ok::<_, crate::Error>((standing, rise))
    };
    let first = given.unwrap_or(FULL);
    let (standing, rise) = attempt(first, &mut trials)?;
    let mut best = (first, standing);
    if given.is_some() || rise <= limit {
        return Ok((best.0, best.1, trials));
    }
    let (mut low, mut high, mut within) = (0.0, FULL, false);
    for _ in 0..HALVINGS {
        let scale = (low + high) / 2.0;
        let (standing, rise) = attempt(scale, &mut trials)?;
        if rise <= limit {
            (low, best, within) = (scale, (scale, standing), true);
            if judge.kept(standing) <= FORGOTTEN {
                break;
            }
        } else {
            high = scale;
            if !within {
                best = (scale, standing);
            }
        }
    }
    Ok((best.0, best.1, trials))
}
