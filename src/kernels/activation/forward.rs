//! `y[i] = f(x[i])` for an activation function f.

use rayon::prelude::*;

use super::{Activation, Formula, value_and_derivative, with_formula};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{exp, multiversioned};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "activation/forward", summary: "activation function: y = f(x)" };

kernel_params! {
    /// The shader's parameters.
    Params = ACTIVATION_FORWARD {
        /// Elements of `x` and `y`.
        count: u32,
    }
}

/// Applies `activation` to the first `count` elements of `x`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(device: &Device, activation: Activation, count: usize, x: &Buffer, y: &Buffer) -> Result<()> {
    let params = Params { count: index(count)? };
    launch(
        device,
        KERNEL.name,
        activation.variant(),
        &params,
        &[x, y],
        flat_grid(count, 256),
        cost(&params),
        |buffers| {
            cpu(&params, activation, &buffers.read(1), &mut buffers.write(2));
        },
    )
}

/// What one launch costs; a function value counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.count);
    Cost { bytes: 2 * 4 * count, operations: count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, activation: Activation, x: &[R], y: &mut [R]) {
    for i in 0..params.count as usize {
        y[i] = value_and_derivative(activation, x[i]).0;
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, activation: Activation, x: &[f32], y: &mut [f32]) {
    const PIECE: usize = 1 << 13;
    let count = params.count as usize;
    y[..count].par_chunks_mut(PIECE).zip(x[..count].par_chunks(PIECE)).for_each(|(y, x)| activate(activation, x, y));
}

multiversioned! {
    fn activate(activation: Activation, x: &[f32], y: &mut [f32]) {
        with_formula!(activation, F => {
            for (y, x) in y.iter_mut().zip(x) {
                *y = F::at(*x, exp).0;
            }
        });
    }
}
