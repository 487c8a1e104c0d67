//! Tests of the linear kernels.
mod covariance;
mod matmul_nn;
mod matmul_nt;
mod weight_grads;
mod weight_importance;

use efface::Element;
use kernels_tests::Random;

/// A random stored matrix: its bytes, and its numbers after the rounding of storage.
fn stored(random: &mut Random, element: Element, count: usize) -> (Vec<u8>, Vec<f32>) {
    let bytes = element.encode(&random.values(count));
    let mut values = vec![0.0; count];
    element.decode(&bytes, &mut values).unwrap();
    (bytes, values)
}

/// `leftᵀ right` over the tokens `begin .. end` of dense float64 rows: a unit's weight gradient by its formula.
fn gradient(begin: usize, end: usize, left: &[Vec<f64>], right: &[Vec<f64>]) -> Vec<f64> {
    let (rows, columns) = (left[0].len(), right[0].len());
    let mut g = vec![0.0; rows * columns];
    for (left, right) in left[begin..end].iter().zip(&right[begin..end]) {
        for (g, left) in g.chunks_mut(columns).zip(left) {
            g.iter_mut().zip(right).for_each(|(g, right)| *g += left * right);
        }
    }
    g
}

/// The columns of a window, token by token, as float64.
fn dense(values: &[f32], stride: usize, offset: usize, width: usize) -> Vec<Vec<f64>> {
    values.chunks(stride).map(|row| row[offset..offset + width].iter().map(|v| f64::from(*v)).collect()).collect()
}
