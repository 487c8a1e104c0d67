//! Tests of the norm kernels.
mod layer_backward;
mod layer_forward;
mod rms_backward;
mod rms_forward;

use kernels_tests::Random;

/// Widths for both workgroup sizes, and the smallest.
fn widths(random: &mut Random) -> [usize; 4] {
    [1, random.size(2, 63), random.size(65, 256), random.size(257, 700)]
}

/// Row `row` of `width` columns in a `[tokens, stride]` buffer whose tokens hold `heads` rows each from `offset` on.
fn row_of(values: &[f64], stride: usize, offset: usize, heads: usize, width: usize, row: usize) -> Vec<f64> {
    values[row / heads * stride + offset + row % heads * width..][..width].to_vec()
}
