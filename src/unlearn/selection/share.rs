//! The largest share of weights that can be changed before what is to be kept suffers: a bisection on the logarithm of the
//! share.

use crate::{Error, Result};

/// A share that was tried, and what it cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SharePoint {
    /// The share of all weights.
    pub share: f64,
    /// The relative rise of the loss on what is to be kept: 0.02 for 2 %.
    pub rise: f64,
}

/// What the bisection found.
#[derive(Clone, Debug, PartialEq)]
pub struct LargestShare {
    /// The largest share that was tried and is within the limit, as are all smaller ones that were tried.
    pub best: SharePoint,
    /// Everything that was tried, by ascending share.
    pub curve: Vec<SharePoint>,
    /// Whether the loss never fell as the share grew, which the bisection takes for granted. Where it did, a larger share
    /// than the best one may be within the limit, too.
    pub monotonic: bool,
}

/// Finds the largest share in `bounds` (smallest, largest) for which `evaluate`, the relative rise of the loss, is at most
/// `limit`: it halves the interval between their logarithms `steps` times, and tries a bound where every half was on its side. A
/// rise that is not a number exceeds every limit.
///
/// # Errors
/// When the limit or the bounds are no such numbers, when `evaluate` fails, and, as work that led to nothing, when even the
/// smallest share exceeds the limit.
pub fn largest_share(
    limit: f64,
    mut evaluate: impl FnMut(f64) -> Result<f64>,
    bounds: (f64, f64),
    steps: usize,
) -> Result<LargestShare> {
    let (smallest, largest) = bounds;
    if !(limit.is_finite() && limit >= 0.0) {
        return Err(Error::argument(format!("the loss may rise by a share from 0, not by {limit}")));
    }
    if !(smallest > 0.0 && smallest <= largest && largest <= 1.0) {
        return Err(Error::argument(format!(
            "shares to try are above 0 and up to 1, the smallest first, not {smallest} to {largest}"
        )));
    }
    let mut curve = Vec::new();
    let mut attempt = |share: f64| -> Result<SharePoint> {
        let point = SharePoint { share, rise: evaluate(share)? };
        curve.push(point);
        Ok(point)
    };
    let (mut best, mut too_large) = (None, None);
    for _ in (0..steps).filter(|_| smallest < largest) {
        let below = best.map_or(smallest, |best: SharePoint| best.share);
        let middle = attempt((below * too_large.unwrap_or(largest)).sqrt())?;
        if within(middle, limit) {
            best = Some(middle);
        } else {
            too_large = Some(middle.share);
        }
    }
    let best = match best {
        Some(best) if too_large.is_some() => best,
        Some(best) => Some(attempt(largest)?).filter(|end| within(*end, limit)).unwrap_or(best),
        None => attempt(smallest)?,
    };
    if !within(best, limit) {
        return Err(Error::Failed(format!(
            "even {:.2e} of the weights, the smallest share to try, raises the loss on what is to be kept by {:.2} %, \
             more than the {:.2} % that are allowed",
            smallest,
            100.0 * best.rise,
            100.0 * limit
        )));
    }
    curve.sort_by(|a, b| a.share.total_cmp(&b.share));
    let monotonic = curve.windows(2).all(|pair| pair[0].rise <= pair[1].rise || pair[1].rise.is_nan());
    Ok(LargestShare { best, curve, monotonic })
}

fn within(point: SharePoint, limit: f64) -> bool {
    point.rise <= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_a_rising_loss_meets_the_limit() {
        // The rise is 40 times the share: 2 % at a share of 0.0005.
        let mut calls = 0;
        let found = largest_share(
            0.02,
            |share| {
                calls += 1;
                Ok(40.0 * share)
            },
            (1e-6, 0.1),
            12,
        );
        let found = found.unwrap();
        assert!(found.monotonic && found.best.rise <= 0.02);
        // Twelve halvings of a factor of 100,000 leave 1.0028.
        assert!(found.best.share > 0.0005 / 1.003, "{found:?}");
        assert_eq!((calls, found.curve.len()), (12, 12));
        assert!(found.curve.windows(2).all(|pair| pair[0].share < pair[1].share));
    }

    #[test]
    fn ends_of_the_interval_and_what_is_not_monotonic() {
        let least = largest_share(0.1, |share| Ok(if share > 1e-4 { 1.0 } else { 0.0 }), (1e-4, 0.5), 5).unwrap();
        assert_eq!((least.best.share, least.curve.len(), least.monotonic), (1e-4, 6, true));
        let almost = largest_share(0.1, |share| Ok(if share < 0.5 { 0.0 } else { 1.0 }), (1e-4, 0.5), 5).unwrap();
        assert!(almost.curve.len() == 6 && almost.best.share < 0.5 && almost.best.share > 0.3, "{almost:?}");
        let flat = largest_share(0.0, |_| Ok(0.0), (1e-4, 0.5), 5).unwrap();
        assert_eq!((flat.best.share, flat.curve.len(), flat.monotonic), (0.5, 6, true));
        let one = largest_share(0.1, |_| Ok(-0.5), (0.2, 0.2), 5).unwrap();
        assert_eq!((one.best.share, one.curve.len()), (0.2, 1));
        let dip = largest_share(
            0.02,
            |s| {
                Ok(if s < 0.002 {
                    0.01
                } else if s < 0.01 {
                    -0.01
                } else {
                    9.0
                })
            },
            (1e-4, 1.0),
            6,
        );
        let dip = dip.unwrap();
        assert!(!dip.monotonic && dip.best.rise == -0.01);
        // A model that is destroyed: its loss is not a number.
        let broken = largest_share(0.02, |s| Ok(if s > 0.01 { f64::NAN } else { 0.0 }), (1e-3, 1.0), 8).unwrap();
        assert!(broken.monotonic && broken.best.share <= 0.01 && broken.best.share > 0.009);
    }

    #[test]
    fn refuses_with_the_reason() {
        let error = largest_share(0.02, |_| Ok(0.07), (1e-5, 0.1), 4).unwrap_err();
        assert!(!error.is_input() && error.to_string().contains("7.00 %"), "{error}");
        assert!(largest_share(0.02, |_| Ok(f64::NAN), (1e-5, 0.1), 4).is_err());
        assert!(largest_share(0.02, |_| Err(Error::Failed("lost".into())), (1e-5, 0.1), 4).is_err());
        for (limit, bounds) in
            [(-1.0, (0.1, 0.2)), (f64::NAN, (0.1, 0.2)), (0.1, (0.0, 0.2)), (0.1, (0.3, 0.2)), (0.1, (0.3, 1.2))]
        {
            assert!(largest_share(limit, |_| Ok(0.0), bounds, 3).unwrap_err().is_input());
        }
    }
}
