//! Importance of a bias or a norm's gain: the gradient of unit n is `G_n[i] = Σ terms[row, i]` over the unit's rows, and the
//! importance accumulates the units in order.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Accumulate, Cost, Kernel, Real, Segments, Window, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "vector/importance", summary: "per-sample gradients of a bias or gain, accumulated" };

/// Elements of one workgroup, as in the shader.
const COLUMNS: usize = 32;

kernel_params! {
    /// The shader's parameters.
    Params = VECTOR_IMPORTANCE {
        /// Number of units.
        units: u32,
        /// Rows of terms for each token.
        rows_per_token: u32,
        /// Length of the vector.
        width: u32,
        /// Elements from one row of terms to the next.
        terms_stride: u32,
        /// First column of terms.
        terms_offset: u32,
    }
}

/// Adds the units' gradients to `importance` `[width]`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    accumulate: Accumulate,
    segments: Segments<'_>,
    rows_per_token: usize,
    terms: Window<'_>,
    width: usize,
    importance: &Buffer,
) -> Result<()> {
    let params = Params {
        units: index(segments.count)?,
        rows_per_token: index(rows_per_token)?,
        width: index(width)?,
        terms_stride: index(terms.stride)?,
        terms_offset: index(terms.offset)?,
    };
    let variant = format!("ACCUMULATE={}", accumulate.name());
    let buffers = [segments.offsets, terms.buffer, importance];
    let workgroups = [index(width.div_ceil(COLUMNS))?, 1, 1];
    launch(device, KERNEL.name, &variant, &params, &buffers, workgroups, |buffers| {
        cpu(&params, accumulate, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs over `tokens` tokens.
pub fn cost(params: &Params, tokens: usize) -> Cost {
    let terms = tokens as u64 * u64::from(params.rows_per_token) * u64::from(params.width);
    let folds = u64::from(params.units) * u64::from(params.width);
    Cost { bytes: 4 * (terms + 2 * u64::from(params.width)), operations: terms + 2 * folds }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, accumulate: Accumulate, units: &[u32], terms: &[R], importance: &mut [R]) {
    for i in 0..params.width as usize {
        for unit in units.windows(2).take(params.units as usize) {
            let mut gradient = R::default();
            for row in unit[0] * params.rows_per_token..unit[1] * params.rows_per_token {
                gradient += terms[(row * params.terms_stride + params.terms_offset) as usize + i];
            }
            importance[i] = accumulate.fold(importance[i], gradient);
        }
    }
}

/// The fast form on the CPU: blocks of columns in parallel.
pub fn cpu(params: &Params, accumulate: Accumulate, units: &[u32], terms: &[f32], importance: &mut [f32]) {
    const BLOCK: usize = 256;
    let width = params.width as usize;
    let (stride, offset) = (params.terms_stride as usize, params.terms_offset as usize);
    importance[..width].par_chunks_mut(BLOCK).enumerate().for_each(|(block, importance)| {
        let mut gradient = [0.0; BLOCK];
        let gradient = &mut gradient[..importance.len()];
        for unit in units.windows(2).take(params.units as usize) {
            gradient.fill(0.0);
            for row in (unit[0] * params.rows_per_token) as usize..(unit[1] * params.rows_per_token) as usize {
                let first = row * stride + offset + block * BLOCK;
                for (gradient, term) in gradient.iter_mut().zip(&terms[first..first + importance.len()]) {
                    *gradient += term;
                }
            }
            for (importance, gradient) in importance.iter_mut().zip(gradient.iter()) {
                *importance = accumulate.fold(*importance, *gradient);
            }
        }
    });
}
