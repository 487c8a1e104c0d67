//! `y = act(x)`, element by element.

use rayon::prelude::*;

use super::{Activation, PIECE};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "activation/forward", summary: "activation function" };

kernel_params! {
    /// The shader's parameters.
    Params = ACTIVATION_FORWARD {
        /// Elements.
        count: u32,
    }
}

/// Applies the function to `count` elements.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(device: &Device, activation: Activation, count: usize, x: &Buffer, y: &Buffer) -> Result<()> {
    let params = Params { count: index(count)? };
    let buffers = [x, y];
    launch(device, KERNEL.name, &activation.variant(), &params, &buffers, flat_grid(count, 256), |buffers| {
        cpu(activation, &params, &buffers.read(1), &mut buffers.write(2));
    })
}

/// What one launch costs; an exponential counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.count);
    Cost { bytes: 8 * count, operations: 8 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(activation: Activation, params: &Params, x: &[R], y: &mut [R]) {
    for i in 0..params.count as usize {
        y[i] = activation.value(x[i]);
    }
}

/// The fast form on the CPU.
pub fn cpu(activation: Activation, params: &Params, x: &[f32], y: &mut [f32]) {
    let count = params.count as usize;
    y[..count].par_chunks_mut(PIECE).zip(x[..count].par_chunks(PIECE)).for_each(|(y, x)| {
        for (y, x) in y.iter_mut().zip(x) {
            *y = activation.value(*x);
        }
    });
}
