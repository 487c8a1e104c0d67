//! The gradient of a bias or gain for one unit: `G[i] = Σ terms[row, i]` over the unit's rows.

use std::ops::Range;

use rayon::prelude::*;

use super::{Terms, column_grid};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, index, launch, simd};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "vector/grads", summary: "the gradient of a bias or gain for one unit" };

kernel_params! {
    /// The shader's parameters.
    Params = VECTOR_GRADS {
        /// The unit's first row.
        begin: u32,
        /// One past its last row.
        end: u32,
        /// Elements of the vector.
        width: u32,
        /// Elements from one row of `terms` to the next.
        terms_stride: u32,
        /// First column of `terms`.
        terms_offset: u32,
    }
}

/// Writes the gradient of the unit `tokens` to `grads` `[width]`. A token has `rows_per_token` rows of `terms`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: Range<usize>,
    rows_per_token: usize,
    terms: Window<'_>,
    width: usize,
    grads: &Buffer,
) -> Result<()> {
    let params = Params {
        begin: index(tokens.start.saturating_mul(rows_per_token))?,
        end: index(tokens.end.saturating_mul(rows_per_token))?,
        width: index(width)?,
        terms_stride: index(terms.stride)?,
        terms_offset: index(terms.offset)?,
    };
    launch(device, KERNEL.name, "", &params, &[terms.buffer, grads], column_grid(width), cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &mut buffers.write(2));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let [rows, width] = [params.end - params.begin, params.width].map(u64::from);
    Cost { bytes: 4 * (rows + 1) * width, operations: rows * width }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, terms: &[R], grads: &mut [R]) {
    let p = params;
    for i in 0..p.width {
        let mut g = R::default();
        for row in p.begin..p.end {
            g += terms[(row * p.terms_stride + p.terms_offset + i) as usize];
        }
        grads[i as usize] = g;
    }
}

/// Columns that one task sums.
const PIECE: usize = 64;

/// The fast form on the CPU.
pub fn cpu(params: &Params, terms: &[f32], grads: &mut [f32]) {
    let terms = Terms { values: terms, stride: params.terms_stride as usize, offset: params.terms_offset as usize };
    let rows = params.begin as usize..params.end as usize;
    grads[..params.width as usize].par_chunks_mut(PIECE).enumerate().for_each(|(piece, grads)| {
        simd::wide(|| terms.sum(rows.clone(), piece * PIECE, grads));
    });
}
