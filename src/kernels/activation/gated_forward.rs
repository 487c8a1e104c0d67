//! Gated activation (Shazeer 2020): `y[t, i] = f(gate[t, i]) up[t, i]`, gate and up side by side in one buffer.

use rayon::prelude::*;

use super::{Activation, Formula, value_and_derivative, with_formula};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{exp, multiversioned};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "activation/gated_forward", summary: "gated activation: y = f(gate) up" };

kernel_params! {
    /// The shader's parameters.
    Params = ACTIVATION_GATED_FORWARD {
        /// Rows.
        tokens: u32,
        /// Columns of `y`; `gate_up` has twice as many.
        width: u32,
    }
}

/// Computes `y` `[tokens, width]` from `gate_up` `[tokens, gate | up]`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    activation: Activation,
    tokens: usize,
    width: usize,
    gate_up: &Buffer,
    y: &Buffer,
) -> Result<()> {
    index(2 * tokens * width)?;
    let params = Params { tokens: index(tokens)?, width: index(width)? };
    let workgroups = flat_grid(tokens * width, 256);
    launch(device, KERNEL.name, activation.variant(), &params, &[gate_up, y], workgroups, cost(&params), |buffers| {
        cpu(&params, activation, &buffers.read(1), &mut buffers.write(2));
    })
}

/// What one launch costs; a function value counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 3 * 4 * count, operations: 2 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, activation: Activation, gate_up: &[R], y: &mut [R]) {
    let width = params.width as usize;
    for i in 0..params.tokens as usize * width {
        let gate = i + i / width * width;
        y[i] = value_and_derivative(activation, gate_up[gate]).0 * gate_up[gate + width];
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, activation: Activation, gate_up: &[f32], y: &mut [f32]) {
    let [tokens, width] = [params.tokens, params.width].map(|n| n as usize);
    let inputs = gate_up.par_chunks_exact(2 * width);
    y.par_chunks_exact_mut(width).zip(inputs).take(tokens).for_each(|(y, gate_up)| {
        let (gate, up) = gate_up.split_at(width);
        activate(activation, gate, up, y);
    });
}

multiversioned! {
    fn activate(activation: Activation, gate: &[f32], up: &[f32], y: &mut [f32]) {
        with_formula!(activation, F => {
            for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                *y = F::at(*gate, exp).0 * up;
            }
        });
    }
}
