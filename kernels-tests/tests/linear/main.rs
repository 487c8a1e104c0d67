//! Tests of the linear kernels.
mod covariance;
mod matmul_nn;
mod matmul_nt;
mod mixed_importance;
mod mixed_nn;
mod mixed_nt;
mod row_exponents;
mod weight_grads;
mod weight_importance;

use efface::Element;
use efface::device::Device;
use efface::kernels::precision::Unit;
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

/// The nearest number of half precision's eleven digits, whatever its size: what matrix units see of it, if scaling keeps it
/// in their range.
fn eleven_digits(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let unit = 2f64.powi(value.abs().log2().floor() as i32 - 10);
    (value / unit).round_ties_even() * unit
}

/// What `device` can compute mixed precision with: matrix units, if it has any, and the emulation.
fn units(device: &Device) -> impl Iterator<Item = Unit> {
    Unit::ALL.into_iter().filter(|unit| unit.is_offered(device.features()))
}

/// Random rows of activations whose sizes are powers of two far beyond the range of half precision, a row of zeros among them.
fn rows_of_all_sizes(random: &mut Random, rows: usize, stride: usize) -> Vec<f32> {
    let mut values = Vec::new();
    for row in 0..rows {
        let size = if row == 1 { 0.0 } else { 2f32.powi(random.size(0, 80) as i32 - 60) };
        values.extend(random.values(stride).into_iter().map(|v| v * size));
    }
    values
}
