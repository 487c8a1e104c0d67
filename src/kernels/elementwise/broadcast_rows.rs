//! One row for every token: `y[t, i] = row[i]`. A bias is written this way before the product that is added to it.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "elementwise/broadcast_rows", summary: "a bias in every token's row, before a product is added" };

kernel_params! {
    /// The shader's parameters.
    Params = ELEMENTWISE_BROADCAST_ROWS {
        /// Rows of `y`.
        tokens: u32,
        /// Elements of `row`.
        width: u32,
        /// Elements from one row of `y` to the next.
        y_stride: u32,
        /// First column of `y`.
        y_offset: u32,
    }
}

/// Writes `row` `[width]` to each of the `tokens` rows of `y`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(device: &Device, tokens: usize, width: usize, row: &Buffer, y: Window<'_>) -> Result<()> {
    let count = index(tokens.saturating_mul(width))? as usize;
    let params =
        Params { tokens: index(tokens)?, width: index(width)?, y_stride: index(y.stride)?, y_offset: index(y.offset)? };
    launch(device, KERNEL.name, "", &params, &[row, y.buffer], flat_grid(count, 256), cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &mut buffers.write(2));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    Cost { bytes: 4 * (u64::from(params.tokens) + 1) * u64::from(params.width), operations: 0 }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, row: &[R], y: &mut [R]) {
    let p = params;
    for t in 0..p.tokens {
        for i in 0..p.width {
            y[(t * p.y_stride + p.y_offset + i) as usize] = row[i as usize];
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, row: &[f32], y: &mut [f32]) {
    let [width, stride, offset] = [params.width, params.y_stride, params.y_offset].map(|n| n as usize);
    y.par_chunks_mut(stride).take(params.tokens as usize).with_min_len(16).for_each(|y| {
        y[offset..offset + width].copy_from_slice(&row[..width]);
    });
}
