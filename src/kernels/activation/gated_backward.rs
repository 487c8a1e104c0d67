//! Gradient of a gated activation: `dgate[t, i] = dy[t, i] up[t, i] f'(gate[t, i])` and `dup[t, i] = dy[t, i] f(gate[t, i])`.

use rayon::prelude::*;

use super::{Activation, Formula, value_and_derivative, with_formula};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{exp, multiversioned};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "activation/gated_backward", summary: "gradient of a gated activation" };

kernel_params! {
    /// The shader's parameters.
    Params = ACTIVATION_GATED_BACKWARD {
        /// Rows.
        tokens: u32,
        /// Columns of `dy`; `gate_up` and `d_gate_up` have twice as many.
        width: u32,
    }
}

/// Computes `d_gate_up` `[tokens, gate | up]` from `gate_up` of the same shape and `dy` `[tokens, width]`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    activation: Activation,
    tokens: usize,
    width: usize,
    gate_up: &Buffer,
    dy: &Buffer,
    d_gate_up: &Buffer,
) -> Result<()> {
    index(2 * tokens * width)?;
    let params = Params { tokens: index(tokens)?, width: index(width)? };
    let workgroups = flat_grid(tokens * width, 256);
    launch(
        device,
        KERNEL.name,
        activation.variant(),
        &params,
        &[gate_up, dy, d_gate_up],
        workgroups,
        cost(&params),
        |buffers| {
            cpu(&params, activation, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
        },
    )
}

/// What one launch costs; a function value or derivative counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 5 * 4 * count, operations: 5 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, activation: Activation, gate_up: &[R], dy: &[R], d_gate_up: &mut [R]) {
    let width = params.width as usize;
    for i in 0..params.tokens as usize * width {
        let gate = i + i / width * width;
        let up = gate + width;
        let (value, derivative) = value_and_derivative(activation, gate_up[gate]);
        d_gate_up[gate] = dy[i] * gate_up[up] * derivative;
        d_gate_up[up] = dy[i] * value;
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, activation: Activation, gate_up: &[f32], dy: &[f32], d_gate_up: &mut [f32]) {
    let [tokens, width] = [params.tokens, params.width].map(|n| n as usize);
    let inputs = gate_up.par_chunks_exact(2 * width).zip(dy.par_chunks_exact(width));
    d_gate_up.par_chunks_exact_mut(2 * width).zip(inputs).take(tokens).for_each(|(d_gate_up, (gate_up, dy))| {
        let (gate, up) = gate_up.split_at(width);
        let (d_gate, d_up) = d_gate_up.split_at_mut(width);
        derive(activation, gate, up, dy, d_gate, d_up);
    });
}

multiversioned! {
    fn derive(activation: Activation, gate: &[f32], up: &[f32], dy: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
        with_formula!(activation, F => {
            let inputs = gate.iter().zip(up).zip(dy);
            for ((d_gate, d_up), ((gate, up), dy)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
                let (value, derivative) = F::at(*gate, exp);
                *d_gate = dy * up * derivative;
                *d_up = dy * value;
            }
        });
    }
}
