//! `dx[i] = dy[i] f'(x[i])` for an activation function f.

use rayon::prelude::*;

use super::{Activation, Formula, value_and_derivative, with_formula};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{exp, multiversioned};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "activation/backward", summary: "gradient of an activation function: dx = dy f'(x)" };

kernel_params! {
    /// The shader's parameters.
    Params = ACTIVATION_BACKWARD {
        /// Elements of `x`, `dy` and `dx`.
        count: u32,
    }
}

/// Computes the gradient at the first `count` elements of `x`. `dy` and `dx` are different buffers.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(device: &Device, activation: Activation, count: usize, x: &Buffer, dy: &Buffer, dx: &Buffer) -> Result<()> {
    let params = Params { count: index(count)? };
    launch(
        device,
        KERNEL.name,
        activation.variant(),
        &params,
        &[x, dy, dx],
        flat_grid(count, 256),
        cost(&params),
        |buffers| {
            cpu(&params, activation, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
        },
    )
}

/// What one launch costs; a derivative counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.count);
    Cost { bytes: 3 * 4 * count, operations: 2 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, activation: Activation, x: &[R], dy: &[R], dx: &mut [R]) {
    for i in 0..params.count as usize {
        dx[i] = dy[i] * value_and_derivative(activation, x[i]).1;
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, activation: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    const PIECE: usize = 1 << 13;
    let count = params.count as usize;
    let inputs = x[..count].par_chunks(PIECE).zip(dy[..count].par_chunks(PIECE));
    dx[..count].par_chunks_mut(PIECE).zip(inputs).for_each(|(dx, (x, dy))| derive(activation, x, dy, dx));
}

multiversioned! {
    fn derive(activation: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        with_formula!(activation, F => {
            for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
                *dx = dy * F::at(*x, exp).1;
            }
        });
    }
}
