//! Kernels of cross-entropy over large vocabularies, a slice of the logits at a time.

pub mod argmax;
pub mod log_moments;
pub mod log_sum_exp;
pub mod logits_grad;
pub mod sample_labels;
pub mod square_norm_grad;

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[
    argmax::KERNEL,
    log_moments::KERNEL,
    log_sum_exp::KERNEL,
    logits_grad::KERNEL,
    sample_labels::KERNEL,
    square_norm_grad::KERNEL,
];

/// Slices of the vocabulary begin at multiples of this, so that folding them gives the same bits as folding it whole.
pub const BLOCK: usize = 512;

/// A position without a target.
pub const NO_TARGET: u32 = u32::MAX;

/// A maximum below every logit, and still finite: differences of it are.
const LOWEST: f32 = -3.0e38;

/// The state of `tokens` folds before the first slice: maximum, sum, target's logit.
pub fn initial_state(tokens: usize) -> Vec<f32> {
    [LOWEST, 0.0, 0.0].repeat(tokens)
}

/// The moments of `tokens` folds before the first slice: maximum, sum, target's logit, first and second moment.
pub fn initial_moments(tokens: usize) -> Vec<f32> {
    [LOWEST, 0.0, 0.0, 0.0, 0.0].repeat(tokens)
}

/// The best of `tokens` positions before the first slice: bits of a score, column.
pub fn initial_best(tokens: usize) -> Vec<u32> {
    [LOWEST.to_bits(), u32::MAX].repeat(tokens)
}

/// Cross-entropy of a token, in nats, from its folded state.
pub fn nll(state: &[f32; 3]) -> f64 {
    let [maximum, sum, target] = state.map(f64::from);
    maximum + sum.ln() - target
}

/// Folds a row of scores into the best so far; of equals the first column wins.
fn fold_best(best: &mut [u32], first_column: u32, scores: impl Iterator<Item = f32>) {
    let (mut score, mut column) = (f32::from_bits(best[0]), best[1]);
    for (i, candidate) in (first_column..).zip(scores) {
        if candidate > score || (candidate == score && i < column) {
            (score, column) = (candidate, i);
        }
    }
    best.copy_from_slice(&[score.to_bits(), column]);
}
