//! Membership inference: does a model treat samples as if it had been trained on them? A score for each sample, higher where it looks more
//! like a member, and the area under the ROC curve between members and others: 0.5 says that they cannot be told apart.
//!
//! | score | of a sample with token losses ℓ |
//! |---|---|
//! | loss | −mean ℓ (Yeom et al. 2018) |
//! | zlib | −mean ℓ / bytes of the text compressed by zlib (Carlini et al. 2021) |
//! | Min-K | −mean of the K % largest ℓ (Shi et al. 2024) |
//! | Min-K++ | mean of the K % smallest (−ℓ − μ)/σ, with mean and deviation of log p over the vocabulary (Zhang et al. 2025) |
//! | gradient norm | −‖∂ mean ℓ / ∂θ‖ (Wang et al. 2024) |

use miniz_oxide::deflate::compress_to_vec_zlib;

use crate::stream::SampleMoments;

/// The level that zlib compresses at unless told otherwise.
const LEVEL: u8 = 6;
/// A distribution narrower than this, in nats, is taken to be so wide: in single precision its width is rounding.
const NARROWEST: f64 = 1e-6;

/// The score by loss.
pub fn loss_score(losses: &[f32]) -> f64 {
    -losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64
}

/// The score by loss, relative to how much there is to say: the size of `text`, whose losses these are, once it is compressed in
/// zlib's format.
pub fn zlib_score(losses: &[f32], text: &str) -> f64 {
    loss_score(losses) / compressed_size(text) as f64
}

fn compressed_size(text: &str) -> usize {
    compress_to_vec_zlib(text.as_bytes(), LEVEL).len()
}

/// The score by the share `k` of the tokens with the largest losses (at least one).
pub fn min_k_score(losses: &[f32], k: f64) -> f64 {
    lowest_mean(losses.iter().map(|loss| -f64::from(*loss)).collect(), k)
}

/// The score by the share `k` of the tokens (at least one) that are least likely, measured by what else the model holds possible
/// in their places: in deviations of log p from its mean.
pub fn min_k_plus_score(moments: &SampleMoments, k: f64) -> f64 {
    let SampleMoments { loss, mean, deviation } = moments;
    let tokens = loss.tokens.iter().zip(mean).zip(deviation);
    let standing = |((loss, mean), deviation): ((&f32, &f32), &f32)| {
        (-f64::from(*loss) - f64::from(*mean)) / f64::from(*deviation).max(NARROWEST)
    };
    lowest_mean(tokens.map(standing).collect(), k)
}

/// The mean of the share `k` of the lowest values, of at least one; no number where one of them is none.
fn lowest_mean(mut values: Vec<f64>, k: f64) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    let count = ((k * values.len() as f64) as usize).clamp(1, values.len().max(1));
    values.iter().take(count).sum::<f64>() / count as f64
}

/// MUSE's privacy leakage in percent: how far an area under the curve is from that of a model which never saw the members.
pub fn privacy_leak(auc: f64, auc_never_saw: f64) -> f64 {
    ((1.0 - auc) - (1.0 - auc_never_saw)) / (1.0 - auc_never_saw) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::SampleLoss;

    #[test]
    fn scores_by_hand() {
        let losses = [1.0, 4.0, 2.0, 3.0];
        assert_eq!(loss_score(&losses), -2.5);
        assert_eq!(min_k_score(&losses, 0.5), -3.5);
        // A fifth of four tokens is none: one is taken.
        assert_eq!(min_k_score(&losses, 0.2), -4.0);
        assert_eq!(min_k_score(&losses, 1.0), -2.5);
        assert!(min_k_score(&[1.0, f32::NAN, 2.0], 0.2).is_nan());
        assert!((privacy_leak(0.6, 0.5) + 20.0).abs() < 1e-9);
    }

    #[test]
    fn compressed_sizes_are_zlibs() {
        // len(zlib.compress(text)) of Python 3: 9, 39 and 52. How a compressor encodes repetitions is its own choice.
        assert_eq!(compressed_size("a"), 9);
        assert_eq!(zlib_score(&[1.0, 3.0], "the painter was born in Foxmoor"), -2.0 / 39.0);
        let repeated = compressed_size(&"the painter was born in Foxmoor and ".repeat(20));
        assert!((49..=55).contains(&repeated), "{repeated}");
    }

    #[test]
    fn least_likely_tokens_are_those_of_the_definition() {
        // Two distributions over four tokens; the targets are the third of the first and the first of the second.
        let distributions = [[0.5f64, 0.25, 0.125, 0.125], [0.7, 0.1, 0.1, 0.1]];
        let targets = [2, 0];
        let mut moments = SampleMoments { loss: SampleLoss::default(), mean: Vec::new(), deviation: Vec::new() };
        let mut standings = Vec::new();
        for (p, target) in distributions.iter().zip(targets) {
            let mean: f64 = p.iter().map(|p| p * p.ln()).sum();
            let square: f64 = p.iter().map(|p| p * p.ln() * p.ln()).sum();
            let deviation = (square - mean * mean).sqrt();
            standings.push((p[target].ln() - mean) / deviation);
            moments.loss.tokens.push(-p[target].ln() as f32);
            moments.mean.push(mean as f32);
            moments.deviation.push(deviation as f32);
        }
        assert!(standings[0] < 0.0 && standings[1] > 0.0);
        assert!((min_k_plus_score(&moments, 0.2) - standings[0]).abs() < 1e-6);
        assert!((min_k_plus_score(&moments, 1.0) - (standings[0] + standings[1]) / 2.0).abs() < 1e-6);
        // A model that is sure has no width; the score stays a number.
        (moments.mean[1], moments.deviation[1], moments.loss.tokens[1]) = (0.0, 0.0, 0.0);
        assert!(min_k_plus_score(&moments, 1.0).is_finite());
    }
}
