//! Tests of the loss kernels, with the vocabulary whole and in slices.
mod argmax;
mod log_moments;
mod log_sum_exp;
mod logits_grad;
mod sample_labels;
mod square_norm_grad;

use efface::kernels::loss::BLOCK;

/// Columns of a slice of all rows, row by row.
fn slice(logits: &[f32], vocabulary: usize, columns: std::ops::Range<usize>) -> Vec<f32> {
    logits.chunks(vocabulary).flat_map(|row| row[columns.clone()].to_vec()).collect()
}

/// Slices of `blocks` blocks each.
fn slices(vocabulary: usize, blocks: usize) -> Vec<std::ops::Range<usize>> {
    let length = blocks * BLOCK;
    (0..vocabulary).step_by(length).map(|first| first..(first + length).min(vocabulary)).collect()
}
