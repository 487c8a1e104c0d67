//! The roof of memory: `y[i] = x[i]`.

use rayon::prelude::*;

use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};
use crate::{Error, Result};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "roof/copy", summary: "the roof of memory: y = x" };

kernel_params! {
    /// The shader's parameters.
    Params = ROOF_COPY {
        /// Quadruples to copy.
        count: u32,
    }
}

/// Copies the first `count` elements, a multiple of four, of `x` to `y`.
///
/// # Errors
/// When `count` is no multiple of four, a buffer is too small or the device failed.
pub fn run(device: &Device, count: usize, x: &Buffer, y: &Buffer) -> Result<()> {
    if !count.is_multiple_of(4) {
        return Err(Error::argument(format!("{count} elements are copied; a multiple of four can be")));
    }
    let params = Params { count: index(count / 4)? };
    launch(device, KERNEL.name, "", &params, &[x, y], flat_grid(count / 4, 256), cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &mut buffers.write(2));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    Cost { bytes: 2 * 16 * u64::from(params.count), operations: 0 }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], y: &mut [R]) {
    let count = 4 * params.count as usize;
    y[..count].copy_from_slice(&x[..count]);
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], y: &mut [f32]) {
    const PIECE: usize = 1 << 16;
    let count = 4 * params.count as usize;
    y[..count].par_chunks_mut(PIECE).zip(x[..count].par_chunks(PIECE)).for_each(|(y, x)| y.copy_from_slice(x));
}
