//! The ratios of all weights of a model, counted on a logarithmic scale: billions of them fit into a few thousand numbers,
//! and every edge of a bin is an exact threshold.

use crate::kernels::update::log_ratio_histogram::{
    BINS, EMPTY, INFINITE, INVALID, OVERFLOW, UNDERFLOW, ZERO, bin_of, lower_edge,
};
use crate::{Error, Result};

/// Counts of weights by their ratio F_f / F, summed over all tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRatioHistogram {
    counts: Vec<u64>,
}

impl Default for LogRatioHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl LogRatioHistogram {
    /// A histogram of nothing.
    pub fn new() -> Self {
        LogRatioHistogram { counts: vec![0; BINS] }
    }

    /// Adds what the kernel [`log_ratio_histogram`](crate::kernels::update::log_ratio_histogram) counted.
    ///
    /// # Errors
    /// When there are not [`BINS`] counts.
    pub fn add(&mut self, counts: &[u32]) -> Result<()> {
        if counts.len() != BINS {
            return Err(Error::argument(format!("{} counts are not those of {BINS} bins", counts.len())));
        }
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum += u64::from(*count);
        }
        Ok(())
    }

    /// Adds `weights` weights that share a ratio: a group. `None`: neither set needs them.
    pub fn record(&mut self, ratio: Option<f32>, weights: u64) {
        self.counts[ratio.map_or(EMPTY, bin_of)] += weights;
    }

    /// The counts, by bin.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All weights that were counted, whatever their ratio.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Weights that the forget set needs: those that can be selected at all.
    pub fn needed(&self) -> u64 {
        self.counts[UNDERFLOW..=INFINITE].iter().sum()
    }

    /// Weights with an importance that is negative or not finite. They are never selected.
    pub fn invalid(&self) -> u64 {
        self.counts[INVALID]
    }

    /// The edge above the largest ratio, infinite where a weight is needed by the forget set alone; `None` where the forget
    /// set needs no weight.
    pub fn above_largest(&self) -> Option<f32> {
        let last = (UNDERFLOW..=INFINITE).rev().find(|bin| self.counts[*bin] > 0)?;
        Some(lower_edge(last + 1).unwrap_or(f32::INFINITY))
    }

    /// How many weights have a ratio above `threshold`. Exact where the threshold is the number before an edge (as those of
    /// [`threshold_for_share`](Self::threshold_for_share) are); otherwise the bin that holds it is taken to be evenly
    /// filled.
    pub fn selected(&self, threshold: f32) -> f64 {
        if threshold == f32::INFINITY {
            return 0.0;
        }
        let least = threshold.max(0.0).next_up();
        let bin = bin_of(least);
        let above: u64 = self.counts[bin + 1..=INFINITE].iter().sum();
        above as f64 + self.counts[bin] as f64 * part_from(bin, least)
    }

    /// The share of all weights that have a ratio above `threshold`, with the accuracy of [`selected`](Self::selected).
    pub fn selected_share(&self, threshold: f32) -> f64 {
        self.selected(threshold) / (self.total() as f64).max(1.0)
    }

    /// The lowest threshold, the number before an edge, that selects at most `share` of all weights: the bins from the edge
    /// on. Infinite where even the highest ratios belong to more weights than that, so that none is selected.
    pub fn threshold_for_share(&self, share: f64) -> f32 {
        let most = (share * self.total() as f64).floor() as u64;
        let (mut threshold, mut selected) = (f32::INFINITY, 0);
        for bin in (UNDERFLOW..=INFINITE).rev().filter(|bin| self.counts[*bin] > 0) {
            selected += self.counts[bin];
            match lower_edge(bin) {
                Some(edge) if selected <= most => threshold = edge.next_down(),
                _ => break,
            }
        }
        threshold
    }

    /// The `p`-th percentile (0 to 100) of the finite ratios, zeros included, as numpy's `linear` method defines it; within
    /// a bin by its even filling, so that it is off by less than a 128th. `None` without a finite ratio.
    pub fn percentile(&self, p: f64) -> Option<f32> {
        let finite = &self.counts[ZERO..=OVERFLOW];
        let count: u64 = finite.iter().sum();
        let place = (p.clamp(0.0, 100.0) / 100.0) * count.saturating_sub(1) as f64;
        let mut before = 0.0;
        for (bin, in_bin) in (ZERO..).zip(finite.iter().map(|c| *c as f64)) {
            if place < before + in_bin {
                let (low, high) = edges(bin);
                return Some((low + (high - low) * ((place - before) / in_bin)) as f32);
            }
            before += in_bin;
        }
        None
    }
}

/// Lower and upper edge of a bin of finite ratios; the last one has no width, as it has no end.
fn edges(bin: usize) -> (f64, f64) {
    let edge = |bin| lower_edge(bin).map_or(0.0, f64::from);
    match bin {
        ZERO => (0.0, 0.0),
        OVERFLOW => (edge(bin), edge(bin)),
        _ => (edge(bin), edge(bin + 1)),
    }
}

/// The part of a bin from `least` on.
fn part_from(bin: usize, least: f32) -> f64 {
    let (low, high) = edges(bin.min(OVERFLOW));
    if high > low && bin < OVERFLOW { ((high - f64::from(least)) / (high - low)).min(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ratios over many octaves, from a fixed recurrence (the test of what is computed from them is exact).
    fn ratios(count: usize) -> Vec<f32> {
        let mut state = 12_345u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        (0..count).map(|_| 2f32.powf(next() * 20.0 - 10.0)).collect()
    }

    fn histogram(ratios: &[f32]) -> LogRatioHistogram {
        let mut histogram = LogRatioHistogram::new();
        for ratio in ratios {
            histogram.record(Some(*ratio), 1);
        }
        histogram
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_ratios() {
        let mut ratios = ratios(10_000);
        ratios.extend([0.0; 2_000]);
        let mut histogram = histogram(&ratios);
        // Neither infinite nor invalid nor empty ratios count.
        histogram.record(Some(f32::INFINITY), 500);
        histogram.record(Some(f32::NAN), 70);
        histogram.record(None, 9_000);
        ratios.sort_by(f32::total_cmp);
        for p in [0.0, 10.0, 17.0, 50.0, 95.4, 99.9, 100.0] {
            let place = p / 100.0 * (ratios.len() - 1) as f64;
            let [low, high] = [place.floor(), place.ceil()].map(|i| f64::from(ratios[i as usize]));
            let want = low + (high - low) * place.fract();
            let got = f64::from(histogram.percentile(p).unwrap());
            assert!((got - want).abs() <= want / 100.0, "{p}: {got}, not {want}");
        }
        assert_eq!(LogRatioHistogram::new().percentile(50.0), None);
        assert_eq!((histogram.total(), histogram.needed(), histogram.invalid()), (21_570, 10_500, 70));
    }

    #[test]
    fn thresholds_for_a_share_select_at_most_that_share_and_nearly_as_much() {
        let ratios = ratios(20_000);
        let histogram = histogram(&ratios);
        for share in [0.0, 0.001, 0.05, 0.5, 0.999, 1.0] {
            let threshold = histogram.threshold_for_share(share);
            let selected = ratios.iter().filter(|r| **r > threshold).count() as f64;
            assert!(selected <= share * 20_000.0);
            // A bin holds 20,000 / (20 octaves of 128) = 8 ratios on average.
            assert!(selected >= share * 20_000.0 - 40.0, "{share}: {selected}");
            assert_eq!(histogram.selected(threshold), selected);
            assert_eq!(histogram.selected_share(threshold), selected / 20_000.0);
        }
        for threshold in [0.0, 0.01, 1.003, 700.0, 1e6] {
            let selected = ratios.iter().filter(|r| **r > threshold).count() as f64;
            assert!((histogram.selected(threshold) - selected).abs() <= 12.0, "{threshold}");
        }
    }

    #[test]
    fn ends_of_the_scale() {
        let mut histogram = LogRatioHistogram::new();
        assert_eq!((histogram.above_largest(), histogram.threshold_for_share(1.0)), (None, f32::INFINITY));
        assert_eq!(histogram.selected_share(0.0), 0.0);
        histogram.record(Some(1e-30), 5);
        assert_eq!((histogram.selected(0.0), histogram.threshold_for_share(1.0)), (5.0, 0.0));
        assert_eq!(histogram.above_largest(), Some(2f32.powi(-24)));
        histogram.record(Some(f32::INFINITY), 10);
        assert_eq!((histogram.selected(f32::MAX), histogram.selected(f32::INFINITY)), (10.0, 0.0));
        assert_eq!((histogram.threshold_for_share(0.5), histogram.threshold_for_share(0.7)), (f32::INFINITY, f32::MAX));
        assert_eq!(histogram.above_largest(), Some(f32::INFINITY));
        assert!(histogram.add(&[1, 2]).is_err());
        let mut counts = vec![0; BINS];
        counts[ZERO] = u32::MAX;
        for _ in 0..3 {
            histogram.add(&counts).unwrap();
        }
        assert_eq!(histogram.total(), 15 + 3 * u64::from(u32::MAX));
    }
}
