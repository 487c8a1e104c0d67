//! Gradient of the weighted cross-entropy at a slice of the logits, in place: `weight · (softmax − [column = target])`.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{exp, multiversioned};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "loss/logits_grad", summary: "gradient of cross-entropy at a slice of the logits" };

kernel_params! {
    /// The shader's parameters.
    Params = LOSS_LOGITS_GRAD {
        /// Number of tokens.
        tokens: u32,
        /// Columns of the slice.
        width: u32,
        /// Its first column in the vocabulary.
        first_column: u32,
    }
}

/// Overwrites `logits` `[tokens, width]` with their gradient. `state` is that of [`log_sum_exp`](super::log_sum_exp) after the
/// last slice; `weights` `[tokens]` is 0 where there is no target.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: usize,
    width: usize,
    first_column: usize,
    targets: &Buffer,
    weights: &Buffer,
    state: &Buffer,
    logits: &Buffer,
) -> Result<()> {
    let params = Params { tokens: index(tokens)?, width: index(width)?, first_column: index(first_column)? };
    let grid = flat_grid(tokens * width, 256);
    launch(device, KERNEL.name, "", &params, &[targets, weights, state, logits], grid, cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &buffers.read(3), &mut buffers.write(4));
    })
}

/// What one launch costs; an exponential counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 4 * (2 * count + 5 * u64::from(params.tokens)), operations: 5 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, targets: &[u32], weights: &[R], state: &[R], logits: &mut [R]) {
    for n in 0..(params.tokens * params.width) as usize {
        let token = n / params.width as usize;
        let column = params.first_column + n as u32 % params.width;
        let mut gradient = R::default();
        if weights[token] != R::default() {
            let probability = (logits[n] - state[token * 3]).exp() / state[token * 3 + 1];
            let wanted = if column == targets[token] { R::real(1.0) } else { R::default() };
            gradient = weights[token] * (probability - wanted);
        }
        logits[n] = gradient;
    }
}

/// The fast form on the CPU: tokens in parallel.
pub fn cpu(params: &Params, targets: &[u32], weights: &[f32], state: &[f32], logits: &mut [f32]) {
    let tokens = params.tokens as usize;
    let rows =
        logits.par_chunks_mut(params.width as usize).zip(&weights[..tokens]).zip(state.par_chunks(3)).zip(targets);
    rows.for_each(|(((row, weight), state), target)| {
        if *weight == 0.0 {
            return row.fill(0.0);
        }
        let scale = weight / state[1];
        scaled_exponentials(row, state[0], scale);
        let target = target.wrapping_sub(params.first_column) as usize;
        if let Some(gradient) = row.get_mut(target) {
            *gradient -= weight;
        }
    });
}

multiversioned! {
    /// Turns every value into e^(value - highest) times `scale`.
    fn scaled_exponentials(values: &mut [f32], highest: f32, scale: f32) {
        for value in values {
            *value = exp(*value - highest) * scale;
        }
    }
}
