//! Folds a slice of each token's logits into its running maximum, sum of exp(l − maximum) and target's logit (Milakov and
//! Gimelshein 2018), aligned block by aligned block.

use rayon::prelude::*;

use super::BLOCK;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{exp, multiversioned, sum};
use crate::kernels::shader::kernel_params;
use crate::kernels::tuning::reduction;
use crate::kernels::{Cost, Kernel, Real, index, launch, row_grid};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "loss/log_sum_exp", summary: "running log-sum-exp over slices of the vocabulary" };

kernel_params! {
    /// The shader's parameters.
    Params = LOSS_LOG_SUM_EXP {
        /// Number of tokens.
        tokens: u32,
        /// Columns of the slice.
        width: u32,
        /// Its first column in the vocabulary.
        first_column: u32,
    }
}

/// Folds `logits` `[tokens, width]` into `state` `[tokens, 3]`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: usize,
    width: usize,
    first_column: usize,
    logits: &Buffer,
    targets: &Buffer,
    state: &Buffer,
) -> Result<()> {
    let params = Params { tokens: index(tokens)?, width: index(width)?, first_column: index(first_column)? };
    let variant = format!("REDUCTION={}", reduction(device, KERNEL.name, tokens, width));
    launch(
        device,
        KERNEL.name,
        &variant,
        &params,
        &[logits, targets, state],
        row_grid(tokens),
        cost(&params),
        |buffers| {
            cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
        },
    )
}

/// What one launch costs; an exponential counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 4 * (count + 7 * u64::from(params.tokens)), operations: 4 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, logits: &[R], targets: &[u32], state: &mut [R]) {
    let width = params.width as usize;
    for token in 0..params.tokens as usize {
        let row = &logits[token * width..(token + 1) * width];
        let (mut maximum, mut sum) = (state[token * 3], state[token * 3 + 1]);
        for block in row.chunks(BLOCK) {
            let mut highest = maximum;
            for logit in block {
                if *logit > highest {
                    highest = *logit;
                }
            }
            let mut exponentials = R::default();
            for logit in block {
                exponentials += (*logit - highest).exp();
            }
            sum = sum * (maximum - highest).exp() + exponentials;
            maximum = highest;
        }
        state[token * 3] = maximum;
        state[token * 3 + 1] = sum;
        let target = targets[token].wrapping_sub(params.first_column);
        if target < params.width {
            state[token * 3 + 2] = row[target as usize];
        }
    }
}

/// The fast form on the CPU: tokens in parallel.
pub fn cpu(params: &Params, logits: &[f32], targets: &[u32], state: &mut [f32]) {
    let width = params.width as usize;
    let rows = state.par_chunks_mut(3).zip(logits.par_chunks(width)).zip(targets).take(params.tokens as usize);
    rows.for_each(|((state, row), target)| {
        for block in row.chunks(BLOCK) {
            let highest = largest(block, state[0]);
            state[1] = state[1] * (state[0] - highest).exp() + exponentials(block, highest);
            state[0] = highest;
        }
        let target = target.wrapping_sub(params.first_column);
        if target < params.width {
            state[2] = row[target as usize];
        }
    });
}

multiversioned! {
    /// The largest of `values` and `so_far`; a NaN is passed over and shows in the sum.
    pub(super) fn largest(values: &[f32], so_far: f32) -> f32 {
        const LANES: usize = 16;
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [so_far; LANES];
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
            }
        }
        rest.iter().chain(&lanes).fold(so_far, |largest, value| if *value > largest { *value } else { largest })
    }
}

multiversioned! {
    /// The sum of e^(value - highest), in a fixed order.
    fn exponentials(values: &[f32], highest: f32) -> f32 {
        const LANES: usize = 16;
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [0.0f32; LANES];
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] += exp(chunk[i] - highest);
            }
        }
        sum(&lanes) + rest.iter().map(|value| exp(value - highest)).sum::<f32>()
    }
}
