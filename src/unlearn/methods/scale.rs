//! How much of an edit is taken whose strength is a number: tried out, and judged by samples held out.

use std::sync::Arc;

use super::judge::{Judge, Standing};
use super::search::{FORGOTTEN, Trial};
use crate::Result;
use crate::model::weights::WeightSource;
use crate::stream::Progress;

/// All of it.
pub const FULL: f64 = 1.0;
/// Strengths that are tried where all of the edit harms too much, at most.
pub const MOST_TRIES: u64 = 4;
/// The share of the limit that the next strength aims at.
const AIM: f64 = 0.9;
/// A strength that uses this share of the limit is strong enough.
const ENOUGH: f64 = 0.7;

/// Makes the weights with a share of an edit, above 0 and up to 1.
pub type AtScale<'a> = dyn Fn(f64) -> Result<Arc<dyn WeightSource>> + 'a;

/// Finds the strength in (0, 1]: all of it where that is within the `limit`; otherwise the largest of those tried that are; where
/// none is, the weakest. Each try is where the harm should reach nine tenths of the limit, and the search ends with one that reaches
/// seven, or that leaves next to nothing. `given`: only this one is judged. Strengths are told as a trial's `scale`.
///
/// # Errors
/// When a pass fails or the weights cannot be made.
pub fn search_scale(
    judge: &Judge<'_>,
    weights: &AtScale<'_>,
    (given, limit): (Option<f64>, f64),
    progress: Progress<'_>,
) -> Result<(f64, Standing, Vec<Trial>)> {
    let total = if given.is_some() { 1 } else { 1 + MOST_TRIES };
    let mut trials = Vec::new();
    let attempt = |scale: f64, trials: &mut Vec<Trial>| {
        let step = trials.len() as u64;
        let tick = |done: u64, of: u64| progress(step * of + done, total * of);
        let standing = judge.standing(weights(scale)?, &tick)?;
        let (kept, rise) = (standing.kept, judge.rise(standing));
        trials.push(Trial { learning_rate: 0.0, step: 0, scale: Some(scale), ridge: None, kept, rise });
        Ok::<_, crate::Error>((standing, rise))
    };
    let first = given.unwrap_or(FULL);
    let (standing, rise) = attempt(first, &mut trials)?;
    let mut best = (first, standing);
    if given.is_some() || rise <= limit {
        return Ok((best.0, best.1, trials));
    }
    let (mut low, mut high, mut above): (Option<Point>, Point, Option<Point>) = (None, (FULL, rise), None);
    for _ in 0..MOST_TRIES {
        let scale = between(low, high, above, limit);
        let (standing, rise) = attempt(scale, &mut trials)?;
        if rise <= limit {
            (low, best) = (Some((scale, rise)), (scale, standing));
            if standing.kept <= FORGOTTEN || rise >= ENOUGH * limit {
                break;
            }
        } else {
            (above, high) = (Some(high), (scale, rise));
            if low.is_none() {
                best = (scale, standing);
            }
        }
    }
    Ok((best.0, best.1, trials))
}

/// A strength, and how much the loss on what is to be kept rises with it.
type Point = (f64, f64);

/// The strength to be tried next: below `high`, which harms too much (as does `above`, further up), and above `low`, if one is
/// known that does not. The harm is taken for the power of the strength that goes through two of them; where two are not known
/// for the square, as it is of a small change of a trained model. Never next to one of the two.
fn between(low: Option<Point>, high: Point, above: Option<Point>, limit: f64) -> f64 {
    let power = |a: Point, b: Point| (b.1 / a.1).ln() / (b.0 / a.0).ln();
    let power = match (low, above) {
        (Some(low), _) if low.1 > 0.0 => power(low, high),
        (None, Some(above)) => power(high, above),
        _ => 2.0,
    };
    let power = if power.is_nan() { 2.0 } else { power.clamp(0.25, 8.0) };
    let guess = high.0 * (AIM * limit / high.1).max(0.0).powf(1.0 / power);
    let from = low.map_or(0.0, |(scale, _)| scale);
    let width = high.0 - from;
    guess.clamp(from + width / 16.0, high.0 - width / 16.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Harm of any power is met within the limit and at seven tenths of it or more, in a few tries.
    #[test]
    fn few_tries_find_the_limit() {
        for power in [0.7, 1.0, 2.0, 3.5] {
            for all in [0.024, 0.2, 1.24] {
                let (limit, mut low, mut high, mut above) = (0.02, None, (1.0, all), None);
                let found = (0..MOST_TRIES).find(|_| {
                    let scale = between(low, high, above, limit);
                    let rise = all * f64::powf(scale, power);
                    if rise <= limit {
                        low = Some((scale, rise));
                    } else {
                        (above, high) = (Some(high), (scale, rise));
                    }
                    rise <= limit && rise >= ENOUGH * limit
                });
                assert!(found.is_some(), "power {power}, {all} at full strength: {low:?} {high:?}");
            }
        }
    }

    #[test]
    fn the_next_try_is_between_the_two() {
        for (low, high) in
            [(None, (1.0, f64::INFINITY)), (Some((0.25, -0.1)), (0.5, 0.3)), (Some((0.25, 0.019)), (0.26, 0.021))]
        {
            let next = between(low, high, None, 0.02);
            assert!(next > low.map_or(0.0, |(scale, _)| scale) && next < high.0, "{next}");
        }
        assert!(between(None, (1.0, 0.5), None, 0.0) > 0.0);
    }
}
