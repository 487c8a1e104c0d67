//! Kernels of linear layers. `W` is a stored matrix `[rows, columns]`; whether rows are outputs (most families) or inputs
//! (GPT-2) decides which product is the forward one, and no kernel needs to know.

pub mod covariance;
pub mod matmul_nn;
pub mod matmul_nt;
pub mod weight_grads;
pub mod weight_importance;

use crate::Element;
use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] =
    &[covariance::KERNEL, matmul_nn::KERNEL, matmul_nt::KERNEL, weight_grads::KERNEL, weight_importance::KERNEL];

/// The tile permutation for a stored matrix: by its shape only, so that a result's bits never depend on how many
/// samples are in flight.
pub(crate) fn tile(rows: usize, columns: usize) -> usize {
    if rows.min(columns) >= 64 { 64 } else { 16 }
}

/// The permutation of a product's shader.
pub(crate) fn product_variant(element: Element, rows: usize, columns: usize) -> String {
    format!("ELEMENT={},TILE={}", element.name(), tile(rows, columns))
}
