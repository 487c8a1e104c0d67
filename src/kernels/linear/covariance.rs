//! The uncentred covariance of a site's activations, before the division by their number: `C += Σ_s x[s]ᵀ x[s]` over selected
//! tokens. C is symmetric, and only its elements on and above the diagonal are made; C may be made in blocks of rows.

use faer::linalg::matmul::triangular::{BlockStructure, matmul as triangular};
use faer::{Accum, Par};
use rayon::prelude::*;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::dense::{product, view, view_mut};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "linear/covariance", summary: "uncentred covariance of selected tokens' activations, C += x^T x" };

/// Rows at which a block of C may begin, for the same bits as without blocks: those of whole tiles.
pub const BLOCK_ROWS: usize = 64;

kernel_params! {
    /// The shader's parameters.
    Params = LINEAR_COVARIANCE {
        /// Selected tokens.
        count: u32,
        /// Features: columns of C.
        width: u32,
        /// The first row of C that the block covers.
        first_row: u32,
        /// Rows that it covers.
        rows: u32,
        /// Elements from one token's activation to the next.
        stride: u32,
        /// The first column.
        offset: u32,
    }
}

/// Adds `x[s]ᵀ x[s]` of the `count` tokens in `selected` to rows `first_row .. first_row + rows` of C, which are `covariance`
/// `[rows, width]`. Of these, elements below C's diagonal are arbitrary afterwards.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    (count, selected): (usize, &Buffer),
    x: Window<'_>,
    width: usize,
    (first_row, rows): (usize, usize),
    covariance: &Buffer,
) -> Result<()> {
    let params = Params {
        count: index(count)?,
        width: index(width)?,
        first_row: index(first_row)?,
        rows: index(rows)?,
        stride: index(x.stride)?,
        offset: index(x.offset)?,
    };
    // By the width alone: blocks of the same C have the same tiles.
    let side = if width >= BLOCK_ROWS { BLOCK_ROWS } else { 16 };
    let workgroups = [width.div_ceil(side) as u32, rows.div_ceil(side) as u32, 1];
    let variant = format!("TILE={side}");
    let buffers = [selected, x.buffer, covariance];
    launch(device, KERNEL.name, &variant, &params, &buffers, workgroups, cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let [count, width, first, rows] = [params.count, params.width, params.first_row, params.rows].map(u64::from);
    // Row r has width - r elements on and above the diagonal.
    let elements: u64 = rows * (width - first) - rows * rows.saturating_sub(1) / 2;
    Cost { bytes: 4 * (count * (1 + width) + 2 * elements), operations: 2 * count * elements }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, selected: &[u32], x: &[R], covariance: &mut [R]) {
    let p = params;
    for r in 0..p.rows {
        for c in p.first_row + r..p.width {
            let mut sum = covariance[(r * p.width + c) as usize];
            for s in 0..p.count {
                let place = selected[s as usize] * p.stride + p.offset;
                sum += x[(place + p.first_row + r) as usize] * x[(place + c) as usize];
            }
            covariance[(r * p.width + c) as usize] = sum;
        }
    }
}

/// The fast form on the CPU: the tokens are gathered, then a triangular and a rectangular product.
pub fn cpu(params: &Params, selected: &[u32], x: &[f32], covariance: &mut [f32]) {
    let [count, width, first, rows, stride, offset] =
        [params.count, params.width, params.first_row, params.rows, params.stride, params.offset].map(|n| n as usize);
    if count == 0 || rows == 0 {
        return;
    }
    let mut gathered = vec![0.0; count * width];
    gathered.par_chunks_exact_mut(width).zip(&selected[..count]).for_each(|(row, token)| {
        row.copy_from_slice(&x[*token as usize * stride + offset..][..width]);
    });
    let x = view(&gathered, count, width, width);
    let covariance = view_mut(covariance, rows, width, width);
    let (_, from_diagonal) = covariance.split_at_col_mut(first);
    let (triangle, rest) = from_diagonal.split_at_col_mut(rows);
    let left = x.subcols(first, rows);
    let (upper, whole) = (BlockStructure::TriangularUpper, BlockStructure::Rectangular);
    triangular(triangle, upper, Accum::Add, left.transpose(), whole, left, whole, 1.0, Par::rayon(0));
    product(rest, true, left.transpose(), x.subcols(first + rows, width - first - rows), true);
}
