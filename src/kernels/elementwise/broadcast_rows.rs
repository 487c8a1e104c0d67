//! A bias, before a product is added to it: `y[t, i] = row[i]`.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "elementwise/broadcast_rows", summary: "a bias in every row" };

kernel_params! {
    /// The shader's parameters.
    Params = ELEMENTWISE_BROADCAST_ROWS {
        /// Tokens times width.
        count: u32,
        /// Length of the row.
        width: u32,
        /// Elements from one row of y to the next.
        stride: u32,
        /// First column of y.
        offset: u32,
    }
}

/// Writes `row` `[width]` into each of `tokens` rows of `y`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(device: &Device, tokens: usize, width: usize, row: &Buffer, y: Window<'_>) -> Result<()> {
    let count = tokens * width;
    let params =
        Params { count: index(count)?, width: index(width)?, stride: index(y.stride)?, offset: index(y.offset)? };
    launch(device, KERNEL.name, "", &params, &[row, y.buffer], flat_grid(count, 256), |buffers| {
        cpu(&params, &buffers.read(1), &mut buffers.write(2));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    Cost { bytes: 4 * (u64::from(params.count) + u64::from(params.width)), operations: 0 }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, row: &[R], y: &mut [R]) {
    for i in 0..params.count {
        let place = i / params.width * params.stride + params.offset + i % params.width;
        y[place as usize] = row[(i % params.width) as usize];
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, row: &[f32], y: &mut [f32]) {
    let (width, offset) = (params.width as usize, params.offset as usize);
    let tokens = params.count as usize / width;
    y.par_chunks_mut(params.stride as usize).take(tokens).with_min_len(16).for_each(|y| {
        y[offset..offset + width].copy_from_slice(&row[..width]);
    });
}
