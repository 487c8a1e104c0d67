//! Statistics of evaluations: intervals, the two-sample Kolmogorov-Smirnov test, areas under curves. Pure functions of figures.

use crate::random::Random;

/// The two-sided 95 % quantile of the normal distribution.
const Z95: f64 = 1.959_963_984_540_054;
/// Two samples with a larger product of sizes are tested by the limiting distribution.
const EXACT: usize = 100_000_000;

/// The 95 % interval of a share by Wilson (1927): `successes` of `count`. All of [0, 1] where nothing was counted.
pub fn wilson(successes: u64, count: u64) -> [f64; 2] {
    if count == 0 {
        return [0.0, 1.0];
    }
    let (n, p) = (count as f64, successes as f64 / count as f64);
    let z2 = Z95 * Z95;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

/// The 95 % percentile interval of a mean by resampling (Efron 1979), `draws` times; none where there are no values.
pub fn bootstrap_mean(values: &[f64], draws: usize, seed: u64) -> Option<[f64; 2]> {
    if values.is_empty() || draws == 0 {
        return None;
    }
    let mut random = Random::new(seed, "bootstrap");
    let mut mean = || (0..values.len()).map(|_| values[random.below(values.len())]).sum::<f64>() / values.len() as f64;
    let mut means: Vec<f64> = (0..draws).map(|_| mean()).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((share * draws as f64) as usize).min(draws - 1)];
    Some([at(0.025), at(0.975)])
}

/// The harmonic mean; 0 where a value is, none where there are no values.
pub fn harmonic_mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.len() as f64 / values.iter().map(|value| 1.0 / value.max(0.0)).sum::<f64>())
}

/// The area under the ROC curve of a score that should be higher for the first list: the chance that one of it is higher than one
/// of the second, ties counting half (Mann and Whitney 1947). None where a list is empty or holds what is no number.
pub fn auc(higher: &[f64], lower: &[f64]) -> Option<f64> {
    if higher.is_empty() || lower.is_empty() || higher.iter().chain(lower).any(|score| score.is_nan()) {
        return None;
    }
    let mut sorted = lower.to_vec();
    sorted.sort_by(f64::total_cmp);
    let below = |score: &f64| {
        let less = sorted.partition_point(|other| other < score);
        let equal = sorted.partition_point(|other| other <= score) - less;
        less as f64 + equal as f64 / 2.0
    };
    Some(higher.iter().map(below).sum::<f64>() / (higher.len() as f64 * lower.len() as f64))
}

/// A two-sample Kolmogorov-Smirnov test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KsTest {
    /// The largest distance between the two empirical distributions.
    pub statistic: f64,
    /// The chance of a distance at least as large if both samples come from one continuous distribution.
    pub p_value: f64,
}

/// Tests whether two samples come from one distribution, two-sided. The p-value is exact up to 10^8 pairs, beyond that by
/// Kolmogorov's limit. None where a sample is empty or holds what is no number.
pub fn ks_two_sample(one: &[f64], other: &[f64]) -> Option<KsTest> {
    if one.is_empty() || other.is_empty() || one.iter().chain(other).any(|value| value.is_nan()) {
        return None;
    }
    let (n, m) = (one.len(), other.len());
    let distance = largest_distance(one, other);
    let statistic = distance as f64 / (n as f64 * m as f64);
    let p_value = match n.saturating_mul(m) <= EXACT {
        true => exact_tail(n, m, distance),
        false => kolmogorov_tail(statistic * (n as f64 * m as f64 / (n + m) as f64).sqrt()),
    };
    Some(KsTest { statistic, p_value })
}

/// max |i·m − j·n| over the values, with i and j of the two samples not above each: the distance times n·m, a whole number.
fn largest_distance(one: &[f64], other: &[f64]) -> u64 {
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let (a, b) = (sorted(one), sorted(other));
    let (n, m) = (a.len() as u64, b.len() as u64);
    let (mut i, mut j, mut largest) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let value = a[i].min(b[j]);
        while i < a.len() && a[i] <= value {
            i += 1;
        }
        while j < b.len() && b[j] <= value {
            j += 1;
        }
        largest = largest.max((i as u64 * m).abs_diff(j as u64 * n));
    }
    largest
}

/// The chance that a random merging of n and m values has |i·m − j·n| ≥ `distance` somewhere. A merging is a path on a lattice; all
/// are equally likely. The path's steps are drawn one by one, and what reaches the bound is summed: a sum of positive terms,
/// so that the smallest p-values keep their digits.
fn exact_tail(n: usize, m: usize, distance: u64) -> f64 {
    if distance == 0 {
        return 1.0;
    }
    let outside = |i: usize, j: usize| (i as u64 * m as u64).abs_diff(j as u64 * n as u64) >= distance;
    // Chances of standing at (i, j) without having reached the bound, for the current i.
    let mut row = vec![0.0; m + 1];
    let mut reached = 0.0;
    for i in 0..=n {
        for j in 0..=m {
            let steps_left = |i: usize, j: usize| (n - i + m - j) as f64;
            let from_above = if i > 0 { row[j] * (n - i + 1) as f64 / steps_left(i - 1, j) } else { 0.0 };
            let from_left = if j > 0 { row[j - 1] * (m - j + 1) as f64 / steps_left(i, j - 1) } else { 0.0 };
            let here = if i == 0 && j == 0 { 1.0 } else { from_above + from_left };
            if outside(i, j) {
                reached += here;
                row[j] = 0.0;
            } else {
                row[j] = here;
            }
        }
    }
    f64::min(reached, 1.0)
}

/// Kolmogorov's limit: 2 Σ (−1)^(k−1) exp(−2 k² x²).
fn kolmogorov_tail(x: f64) -> f64 {
    if x < 0.2 {
        return 1.0;
    }
    let term = |k: i32| f64::from(if k % 2 == 1 { 2 } else { -2 }) * (-2.0 * f64::from(k * k) * x * x).exp();
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
