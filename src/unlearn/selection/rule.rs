//! Rules that make a threshold of the histogram of ratios, and what is noticed where their outcome is none.

use super::LogRatioHistogram;
use crate::{Error, Result};

/// What the forget set's importance is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The retain set: F = F_r.
    Retain,
    /// Both sets together, as in selective synaptic dampening: F = (N_f F_f + N_r F_r) / (N_f + N_r).
    Full {
        /// Samples of the forget set, N_f.
        forget: u64,
        /// Samples of the retain set, N_r.
        retain: u64,
    },
}

impl Against {
    /// The forget set's part in F, as the kernels take it.
    pub fn blend(self) -> f32 {
        match self {
            Against::Retain => 0.0,
            Against::Full { forget, retain } => (forget as f64 / (forget + retain).max(1) as f64) as f32,
        }
    }

    /// What no ratio exceeds: (N_f + N_r) / N_f where the comparison includes the forget set, for F is then at least
    /// F_f N_f / (N_f + N_r).
    pub fn bound(self) -> Option<f64> {
        match self {
            Against::Retain => None,
            Against::Full { forget, retain } => Some((forget + retain) as f64 / forget.max(1) as f64),
        }
    }
}

/// How the threshold is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Selective synaptic dampening (Foster et al. 2024): F_f > alpha F, then w *= min(lambda F / F_f, 1).
    Ssd {
        /// The threshold.
        alpha: f32,
        /// The factor of what remains.
        lambda: f32,
    },
    /// Its form without parameters (adaptive SSD): alpha is a percentile of the finite ratios, see [`auto_percentile`], and
    /// lambda 1.
    SsdAuto {
        /// Samples of the forget set, |D_f|.
        forget: u64,
        /// Samples of the set that the model was trained on, |D|.
        dataset: u64,
    },
    /// The weights with the highest ratios: at most this share of all weights.
    Share {
        /// The share, above 0 and up to 1.
        share: f64,
        /// The factor of what remains.
        lambda: f32,
    },
}

/// The outcome of a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Weights with a ratio above it are selected.
    pub threshold: f32,
    /// The factor of what remains of them, for dampening.
    pub lambda: f32,
    /// How many weights that are (see [`LogRatioHistogram::selected`]).
    pub weights: f64,
    /// The share of all weights.
    pub share: f64,
}

/// The percentile that adaptive selective synaptic dampening makes its threshold: 100 - ln(1 + 100 |D_f| / |D|).
pub fn auto_percentile(forget: u64, dataset: u64) -> f64 {
    100.0 - (100.0 * forget as f64 / dataset.max(1) as f64).ln_1p()
}

impl Rule {
    /// The threshold for these ratios, which were compared with `against`, if it selects some weights and at most the share
    /// `most` of them.
    ///
    /// # Errors
    /// When the rule's figures are out of range or cannot select anything; and, as work that was done and led to nothing,
    /// when it selects no weight or more than `most`. The message says why.
    pub fn choose(self, histogram: &LogRatioHistogram, against: Against, most: f64) -> Result<Choice> {
        let (threshold, lambda) = self.threshold(histogram, against)?;
        let weights = histogram.selected(threshold);
        if weights == 0.0 {
            return Err(Error::Failed(nothing(histogram, threshold)));
        }
        let share = histogram.selected_share(threshold);
        if share > most {
            return Err(Error::Failed(format!(
                "the threshold {threshold:.4} selects {:.3} % of the weights, more than the {:.3} % that are allowed: \
                 a higher one, or more retain samples, would select fewer",
                100.0 * share,
                100.0 * most
            )));
        }
        Ok(Choice { threshold, lambda, weights, share })
    }

    fn threshold(self, histogram: &LogRatioHistogram, against: Against) -> Result<(f32, f32)> {
        match self {
            Rule::Ssd { alpha, lambda } => {
                if !(alpha.is_finite() && alpha >= 0.0) {
                    return Err(Error::argument(format!("alpha is a number from 0, not {alpha}")));
                }
                if let Some(bound) = against.bound().filter(|bound| f64::from(alpha) >= *bound) {
                    return Err(Error::argument(format!(
                        "alpha {alpha} selects nothing: compared with both sets together, no ratio exceeds \
                         (N_f + N_r) / N_f = {bound:.4}; a smaller alpha, more retain samples or a comparison with \
                         the retain set alone would"
                    )));
                }
                Ok((alpha, checked(lambda)?))
            }
            Rule::SsdAuto { forget, dataset } => {
                if forget == 0 || forget > dataset {
                    return Err(Error::argument(format!(
                        "a forget set of {forget} samples is no part of a data set of {dataset}: the size of the set \
                         that the model was trained on is needed"
                    )));
                }
                let alpha = histogram.percentile(auto_percentile(forget, dataset));
                let alpha = alpha.ok_or_else(|| Error::Failed(nothing(histogram, f32::INFINITY)))?;
                Ok((alpha, 1.0))
            }
            Rule::Share { share, lambda } => {
                if !(share > 0.0 && share <= 1.0) {
                    return Err(Error::argument(format!("a share of the weights is above 0 and up to 1, not {share}")));
                }
                Ok((histogram.threshold_for_share(share), checked(lambda)?))
            }
        }
    }
}

fn checked(lambda: f32) -> Result<f32> {
    if lambda.is_finite() && lambda >= 0.0 {
        Ok(lambda)
    } else {
        Err(Error::argument(format!("lambda is a number from 0, not {lambda}")))
    }
}

/// Why nothing is selected.
fn nothing(histogram: &LogRatioHistogram, threshold: f32) -> String {
    let total = histogram.total();
    if total > 0 && histogram.invalid() == total {
        return "no weight is selected: no importance is a finite number from 0".into();
    }
    match histogram.above_largest() {
        None => "no weight is selected: the forget set's importance is 0 everywhere".into(),
        Some(_) if threshold == f32::INFINITY => {
            "no weight is selected: the weights with the highest ratio are already more than the wanted share".into()
        }
        Some(above) => {
            format!("no weight is selected: every ratio is below {above:.4}, the threshold is {threshold:.4}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ratio 1 for 800 weights, 4 for 150, 64 for 40, infinite for 10.
    fn histogram() -> LogRatioHistogram {
        let mut histogram = LogRatioHistogram::new();
        for (ratio, weights) in [(1.0, 800), (4.0, 150), (64.0, 40), (f32::INFINITY, 10)] {
            histogram.record(Some(ratio), weights);
        }
        histogram
    }

    fn choose(rule: Rule, against: Against) -> Result<Choice> {
        rule.choose(&histogram(), against, 0.25)
    }

    #[test]
    fn rules_select_what_their_formulas_say() {
        let ssd = choose(Rule::Ssd { alpha: 10.0, lambda: 0.5 }, Against::Retain).unwrap();
        assert_eq!((ssd.threshold, ssd.lambda, ssd.weights, ssd.share), (10.0, 0.5, 50.0, 0.05));
        let share = choose(Rule::Share { share: 0.21, lambda: 1.0 }, Against::Retain).unwrap();
        assert_eq!((share.threshold, share.weights), (4f32.next_down(), 200.0));
        // ln(1 + 100 / 1000 * 100) = ln 11, so that the 97.6th percentile of 990 finite ratios is 64.
        assert!((auto_percentile(100, 1000) - (100.0 - 11f64.ln())).abs() < 1e-12);
        let auto = choose(Rule::SsdAuto { forget: 100, dataset: 1000 }, Against::Retain).unwrap();
        assert!((64.0..64.5).contains(&auto.threshold) && auto.lambda == 1.0, "{auto:?}");
    }

    #[test]
    fn outcomes_that_are_none_are_refused_with_the_reason() {
        let message = |rule, against| choose(rule, against).unwrap_err();
        let against = Against::Full { forget: 10, retain: 90 };
        assert_eq!((against.blend(), against.bound()), (0.1, Some(10.0)));
        let bound = message(Rule::Ssd { alpha: 10.0, lambda: 1.0 }, against);
        assert!(bound.is_input() && bound.to_string().contains("= 10.0000"), "{bound}");
        let much = message(Rule::Ssd { alpha: 0.5, lambda: 1.0 }, Against::Retain);
        assert!(!much.is_input() && much.to_string().contains("100.000 %"), "{much}");
        let few = message(Rule::Share { share: 0.001, lambda: 1.0 }, Against::Retain);
        assert!(few.to_string().contains("already more"), "{few}");
        let mut finite = LogRatioHistogram::new();
        finite.record(Some(2.0), 7);
        let high = Rule::Ssd { alpha: 5.0, lambda: 1.0 }.choose(&finite, Against::Retain, 1.0).unwrap_err();
        assert!(high.to_string().contains("below 2.0156"), "{high}");
        let mut zero = LogRatioHistogram::new();
        zero.record(Some(0.0), 7);
        let none = Rule::Ssd { alpha: 5.0, lambda: 1.0 }.choose(&zero, Against::Retain, 1.0).unwrap_err();
        assert!(none.to_string().contains("0 everywhere"), "{none}");
        for rule in [
            Rule::Ssd { alpha: -1.0, lambda: 1.0 },
            Rule::Ssd { alpha: f32::NAN, lambda: 1.0 },
            Rule::Ssd { alpha: 1.0, lambda: -1.0 },
            Rule::SsdAuto { forget: 0, dataset: 10 },
            Rule::SsdAuto { forget: 11, dataset: 10 },
            Rule::Share { share: 0.0, lambda: 1.0 },
            Rule::Share { share: f64::NAN, lambda: 1.0 },
        ] {
            assert!(message(rule, Against::Retain).is_input(), "{rule:?}");
        }
    }
}
