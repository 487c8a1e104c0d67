//! Membership inference: does a model treat samples as if it had been trained on them? A score for each sample, higher where it looks more
//! like a member, and the area under the ROC curve between members and others: 0.5 says that they cannot be told apart.
//!
//! | score | of a sample with token losses ℓ |
//! |---|---|
//! | loss | −mean ℓ (Yeom et al. 2018) |
//! | Min-K | −mean of the K % largest ℓ (Shi et al. 2024) |
//! | gradient norm | −‖∂ mean ℓ / ∂θ‖ (Wang et al. 2024) |

/// The score by loss.
pub fn loss_score(losses: &[f32]) -> f64 {
    -losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64
}

/// The score by the share `k` of the tokens with the largest losses (at least one).
pub fn min_k_score(losses: &[f32], k: f64) -> f64 {
    let mut sorted = losses.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let count = ((k * losses.len() as f64) as usize).clamp(1, losses.len().max(1));
    loss_score(&sorted[..count.min(sorted.len())])
}

/// MUSE's privacy leakage in percent: how far an area under the curve is from that of a model which never saw the members.
pub fn privacy_leak(auc: f64, auc_never_saw: f64) -> f64 {
    ((1.0 - auc) - (1.0 - auc_never_saw)) / (1.0 - auc_never_saw) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_by_hand() {
        let losses = [1.0, 4.0, 2.0, 3.0];
        assert_eq!(loss_score(&losses), -2.5);
        assert_eq!(min_k_score(&losses, 0.5), -3.5);
        // A fifth of four tokens is none: one is taken.
        assert_eq!(min_k_score(&losses, 0.2), -4.0);
        assert_eq!(min_k_score(&losses, 1.0), -2.5);
        assert!((privacy_leak(0.6, 0.5) + 20.0).abs() < 1e-9);
    }
}
