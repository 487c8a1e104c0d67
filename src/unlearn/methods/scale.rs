//! How much of an edit is taken whose strength is a number: tried out, and judged by samples held out.

use std::sync::Arc;

use super::judge::{Judge, Standing};
use super::search::{FORGOTTEN, Trial};
use crate::Result;
use crate::model::weights::WeightSource;
use crate::stream::Progress;

/// All of it.
pub const FULL: f64 = 1.0;
/// How often the interval of strengths is halved.
const HALVINGS: u64 = 4;

/// Makes the weights with a share of an edit, above 0 and up to 1.
pub type AtScale<'a> = dyn Fn(f64) -> Result<Arc<dyn WeightSource>> + 'a;

/// Finds the strength in (0, 1]: all of it where that is within the `limit`; otherwise the largest of those tried that are, by
/// halving the interval; where none is, the weakest. `given`: only this one is judged. Strengths are told as a trial's `scale`.
///
/// # Errors
/// When a pass fails or the weights cannot be made.
pub fn search_scale(
    judge: &Judge<'_>,
    weights: &AtScale<'_>,
    (given, limit): (Option<f64>, f64),
    progress: Progress<'_>,
) -> Result<(f64, Standing, Vec<Trial>)> {
    let total = if given.is_some() { 1 } else { 1 + HALVINGS };
    let mut trials = Vec::new();
    let attempt = |scale: f64, trials: &mut Vec<Trial>| {
        let step = trials.len() as u64;
        let tick = |done: u64, of: u64| progress(step * of + done, total * of);
        let standing = judge.standing(weights(scale)?, &tick)?;
        let (kept, rise) = (standing.kept, judge.rise(standing));
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
            if standing.kept <= FORGOTTEN {
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
