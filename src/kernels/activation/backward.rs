//! `dx = dy · act'(x)`, element by element.

use rayon::prelude::*;

use super::{Activation, PIECE};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "activation/backward", summary: "activation function's input gradient" };

kernel_params! {
    /// The shader's parameters.
    Params = ACTIVATION_BACKWARD {
        /// Elements.
        count: u32,
    }
}

/// Computes the input gradient of `count` elements.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(device: &Device, activation: Activation, count: usize, x: &Buffer, dy: &Buffer, dx: &Buffer) -> Result<()> {
    let params = Params { count: index(count)? };
    let buffers = [x, dy, dx];
    launch(device, KERNEL.name, &activation.variant(), &params, &buffers, flat_grid(count, 256), |buffers| {
        cpu(activation, &params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs; an exponential counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.count);
    Cost { bytes: 12 * count, operations: 12 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(activation: Activation, params: &Params, x: &[R], dy: &[R], dx: &mut [R]) {
    for i in 0..params.count as usize {
        dx[i] = dy[i] * activation.slope(x[i]);
    }
}

/// The fast form on the CPU.
pub fn cpu(activation: Activation, params: &Params, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let count = params.count as usize;
    let inputs = x[..count].par_chunks(PIECE).zip(dy[..count].par_chunks(PIECE));
    dx[..count].par_chunks_mut(PIECE).zip(inputs).for_each(|(dx, (x, dy))| {
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = dy * activation.slope(*x);
        }
    });
}
