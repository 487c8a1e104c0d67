//! `y = act(gate) · up`; gate and up stand side by side in a row (Shazeer 2020).

use rayon::prelude::*;

use super::Activation;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "activation/gated_forward", summary: "gated activation" };

kernel_params! {
    /// The shader's parameters.
    Params = ACTIVATION_GATED_FORWARD {
        /// Rows.
        tokens: u32,
        /// Width of gate and of up.
        width: u32,
    }
}

/// Computes `[tokens, width]` from `[tokens, 2 · width]`.
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
    let params = Params { tokens: index(tokens)?, width: index(width)? };
    let buffers = [gate_up, y];
    launch(device, KERNEL.name, &activation.variant(), &params, &buffers, flat_grid(tokens * width, 256), |buffers| {
        cpu(activation, &params, &buffers.read(1), &mut buffers.write(2));
    })
}

/// What one launch costs; an exponential counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 12 * count, operations: 6 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(activation: Activation, params: &Params, gate_up: &[R], y: &mut [R]) {
    let width = params.width as usize;
    for i in 0..params.tokens as usize * width {
        let gate = i / width * 2 * width + i % width;
        y[i] = activation.value(gate_up[gate]) * gate_up[gate + width];
    }
}

/// The fast form on the CPU.
pub fn cpu(activation: Activation, params: &Params, gate_up: &[f32], y: &mut [f32]) {
    let width = params.width as usize;
    let count = params.tokens as usize * width;
    y[..count].par_chunks_mut(width).zip(gate_up.par_chunks(2 * width)).for_each(|(y, row)| {
        let (gate, up) = row.split_at(width);
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            *y = activation.value(*gate) * up;
        }
    });
}
