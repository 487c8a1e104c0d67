//! `d_gate = dy · up · act'(gate)` and `d_up = dy · act(gate)`, side by side as gate and up are.

use rayon::prelude::*;

use super::Activation;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "activation/gated_backward", summary: "gated activation's input gradients" };

kernel_params! {
    /// The shader's parameters.
    Params = ACTIVATION_GATED_BACKWARD {
        /// Rows.
        tokens: u32,
        /// Width of gate and of up.
        width: u32,
    }
}

/// Computes `[tokens, 2 · width]` from `gate_up` of that shape and dy `[tokens, width]`.
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
    let params = Params { tokens: index(tokens)?, width: index(width)? };
    let buffers = [gate_up, dy, d_gate_up];
    launch(device, KERNEL.name, &activation.variant(), &params, &buffers, flat_grid(tokens * width, 256), |buffers| {
        cpu(activation, &params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs; an exponential counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 20 * count, operations: 12 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(activation: Activation, params: &Params, gate_up: &[R], dy: &[R], d_gate_up: &mut [R]) {
    let width = params.width as usize;
    for i in 0..params.tokens as usize * width {
        let gate = i / width * 2 * width + i % width;
        d_gate_up[gate] = dy[i] * gate_up[gate + width] * activation.slope(gate_up[gate]);
        d_gate_up[gate + width] = dy[i] * activation.value(gate_up[gate]);
    }
}

/// The fast form on the CPU.
pub fn cpu(activation: Activation, params: &Params, gate_up: &[f32], dy: &[f32], d_gate_up: &mut [f32]) {
    let (tokens, width) = (params.tokens as usize, params.width as usize);
    let inputs = gate_up.par_chunks(2 * width).zip(dy.par_chunks(width));
    d_gate_up[..2 * tokens * width].par_chunks_mut(2 * width).zip(inputs).for_each(|(d_row, (row, dy))| {
        let (gate, up) = row.split_at(width);
        let (d_gate, d_up) = d_row.split_at_mut(width);
        for i in 0..width {
            d_gate[i] = dy[i] * up[i] * activation.slope(gate[i]);
            d_up[i] = dy[i] * activation.value(gate[i]);
        }
    });
}
