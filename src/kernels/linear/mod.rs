//! Kernels of linear layers. `W` is a stored matrix `[rows, columns]`; whether rows are outputs (most families) or inputs
//! (GPT-2) decides which product is the forward one, and no kernel needs to know.

pub mod covariance;
pub mod matmul_nn;
pub mod matmul_nt;
pub mod mixed_importance;
pub mod mixed_nn;
pub mod mixed_nt;
pub mod row_exponents;
pub mod weight_grads;
pub mod weight_importance;

use crate::Element;
use crate::device::Device;
use crate::kernels::tile::{DEPTH, Tile};
use crate::kernels::tuning::{AdapterClass, Problem};
use crate::kernels::{Kernel, Window};

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[
    covariance::KERNEL,
    matmul_nn::KERNEL,
    matmul_nt::KERNEL,
    mixed_importance::KERNEL,
    mixed_nn::KERNEL,
    mixed_nt::KERNEL,
    row_exponents::KERNEL,
    weight_grads::KERNEL,
    weight_importance::KERNEL,
];

/// The permutation of a product's shader, and its tile: by the tuning of the device, or the rule that is built in.
/// `depth` is how many terms the sums have; `windows` are the strides and offsets of the activations. All permutations give
/// the same bits.
fn product_variant(device: &Device, problem: &Problem, depth: usize, windows: &[Window<'_>]) -> (String, Tile) {
    let tile = tile(device, problem, Tile::for_product);
    let whole = depth.is_multiple_of(DEPTH) && problem.columns.is_multiple_of(tile.columns);
    let edges = edges(whole, windows);
    (format!("ELEMENT={},TILE={},EDGES={edges}", problem.element.unwrap_or(Element::F32).name(), tile.name), tile)
}

/// The permutation of a weight gradient's shader, but for its accumulation, and its tile.
fn gradient_variant(device: &Device, problem: &Problem, windows: &[Window<'_>]) -> (String, Tile) {
    let tile = tile(device, problem, Tile::for_gradient);
    let whole = problem.rows.is_multiple_of(tile.rows) && problem.columns.is_multiple_of(tile.columns);
    (format!("TILE={},EDGES={}", tile.name, edges(whole, windows)), tile)
}

fn tile(device: &Device, problem: &Problem, rule: impl Fn(&Problem, AdapterClass) -> Tile) -> Tile {
    let tuning = device.tuning();
    tuning.measured(problem).and_then(Tile::named).unwrap_or_else(|| rule(problem, tuning.class()))
}

/// Whether a variant without edges can be taken: what it reads are whole vectors of four.
fn edges(whole: bool, windows: &[Window<'_>]) -> &'static str {
    let vectors = windows.iter().all(|w| w.stride.is_multiple_of(4) && w.offset.is_multiple_of(4));
    if whole && vectors { "none" } else { "any" }
}
