//! Gradient of the weighted squared norm at a slice of the logits, in place: `weight · d‖l‖²/dl = 2 weight l`.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "loss/square_norm_grad", summary: "gradient of the squared norm at a slice of the logits" };

kernel_params! {
    /// The shader's parameters.
    Params = LOSS_SQUARE_NORM_GRAD {
        /// Number of tokens.
        tokens: u32,
        /// Columns of the slice.
        width: u32,
    }
}

/// Overwrites `logits` `[tokens, width]` with the gradient of Σ weight ‖logits‖²; `weights` `[tokens]` is 0 where a position
/// does not count.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(device: &Device, tokens: usize, width: usize, weights: &Buffer, logits: &Buffer) -> Result<()> {
    let params = Params { tokens: index(tokens)?, width: index(width)? };
    let grid = flat_grid(tokens * width, 256);
    launch(device, KERNEL.name, "", &params, &[weights, logits], grid, cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &mut buffers.write(2));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 4 * (2 * count + u64::from(params.tokens)), operations: 2 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, weights: &[R], logits: &mut [R]) {
    for n in 0..(params.tokens * params.width) as usize {
        let weight = weights[n / params.width as usize];
        logits[n] = if weight != R::default() { R::real(2.0) * weight * logits[n] } else { R::default() };
    }
}

/// The fast form on the CPU: tokens in parallel.
pub fn cpu(params: &Params, weights: &[f32], logits: &mut [f32]) {
    let rows = logits.par_chunks_mut(params.width as usize).zip(&weights[..params.tokens as usize]);
    rows.for_each(|(row, weight)| match *weight {
        0.0 => row.fill(0.0),
        weight => row.iter_mut().for_each(|logit| *logit *= 2.0 * weight),
    });
}
