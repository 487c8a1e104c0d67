//! Residual connection: `y[i] += x[i]`.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "elementwise/add", summary: "residual connection: y += x" };

kernel_params! {
    /// The shader's parameters.
    Params = ELEMENTWISE_ADD {
        /// Elements of `x` and `y`.
        count: u32,
    }
}

/// Adds the first `count` elements of `x` to `y`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(device: &Device, count: usize, x: &Buffer, y: &Buffer) -> Result<()> {
    let params = Params { count: index(count)? };
    launch(device, KERNEL.name, "", &params, &[x, y], flat_grid(count, 256), cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &mut buffers.write(2));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.count);
    Cost { bytes: 3 * 4 * count, operations: count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], y: &mut [R]) {
    for i in 0..params.count as usize {
        y[i] += x[i];
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], y: &mut [f32]) {
    const PIECE: usize = 1 << 14;
    let count = params.count as usize;
    y[..count].par_chunks_mut(PIECE).zip(x[..count].par_chunks(PIECE)).for_each(|(y, x)| {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    });
}
