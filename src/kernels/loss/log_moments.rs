//! Folds a slice of each token's logits l into what the moments of its log-probabilities, under its own distribution, are made
//! of: running maximum m, Σ e^(l − m), the target's logit, Σ e^(l − m) (l − m) and Σ e^(l − m) (l − m)², aligned block by
//! aligned block as in [`log_sum_exp`](super::log_sum_exp).

use rayon::prelude::*;

use super::BLOCK;
use super::log_sum_exp::largest;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{exp, multiversioned, sum};
use crate::kernels::shader::kernel_params;
use crate::kernels::tuning::reduction;
use crate::kernels::{Cost, Kernel, Real, index, launch, row_grid};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel {
    name: "loss/log_moments",
    summary: "running moments of the log-probabilities over slices of the vocabulary",
};

kernel_params! {
    /// The shader's parameters.
    Params = LOSS_LOG_MOMENTS {
        /// Number of tokens.
        tokens: u32,
        /// Columns of the slice.
        width: u32,
        /// Its first column in the vocabulary.
        first_column: u32,
    }
}

/// Numbers of a token's state.
pub const STATE: usize = 5;
/// The exponential of this is nothing, and its square is still finite.
const FARTHEST: f32 = -120.0;

/// Folds `logits` `[tokens, width]` into `state` `[tokens, 5]`.
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
    let buffers = [logits, targets, state];
    launch(device, KERNEL.name, &variant, &params, &buffers, row_grid(tokens), cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs; an exponential counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 4 * (count + 11 * u64::from(params.tokens)), operations: 9 * count }
}

/// Mean and standard deviation, in nats, of a token's log-probabilities under its own distribution, from its complete state.
pub fn spread(state: &[f32; STATE]) -> [f64; 2] {
    let [_, sum, _, first, second] = state.map(f64::from);
    let mean = first / sum;
    [mean - sum.ln(), (second / sum - mean * mean).max(0.0).sqrt()]
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, logits: &[R], targets: &[u32], state: &mut [R]) {
    let (width, farthest) = (params.width as usize, R::real(f64::from(FARTHEST)));
    let not_farther = |below: R| if below > farthest { below } else { farthest };
    for token in 0..params.tokens as usize {
        let row = &logits[token * width..(token + 1) * width];
        let [mut maximum, mut sum] = [state[token * 5], state[token * 5 + 1]];
        let [mut first_moment, mut second_moment] = [state[token * 5 + 3], state[token * 5 + 4]];
        for block in row.chunks(BLOCK) {
            let mut highest = maximum;
            for logit in block {
                if *logit > highest {
                    highest = *logit;
                }
            }
            let [mut exponentials, mut firsts, mut seconds] = [R::default(); 3];
            for logit in block {
                let below = not_farther(*logit - highest);
                let exponential = below.exp();
                exponentials += exponential;
                firsts += exponential * below;
                seconds += exponential * below * below;
            }
            let fall = not_farther(maximum - highest);
            let scale = fall.exp();
            second_moment = scale * (second_moment + fall * (R::real(2.0) * first_moment + fall * sum)) + seconds;
            first_moment = scale * (first_moment + fall * sum) + firsts;
            sum = scale * sum + exponentials;
            maximum = highest;
        }
        state[token * 5] = maximum;
        state[token * 5 + 1] = sum;
        state[token * 5 + 3] = first_moment;
        state[token * 5 + 4] = second_moment;
        let target = targets[token].wrapping_sub(params.first_column);
        if target < params.width {
            state[token * 5 + 2] = row[target as usize];
        }
    }
}

/// The fast form on the CPU: tokens in parallel.
pub fn cpu(params: &Params, logits: &[f32], targets: &[u32], state: &mut [f32]) {
    let width = params.width as usize;
    let rows = state.par_chunks_mut(STATE).zip(logits.par_chunks(width)).zip(targets).take(params.tokens as usize);
    rows.for_each(|((state, row), target)| {
        for block in row.chunks(BLOCK) {
            let highest = largest(block, state[0]);
            let [exponentials, firsts, seconds] = moments(block, highest);
            let fall = (state[0] - highest).max(FARTHEST);
            let scale = fall.exp();
            state[4] = scale * (state[4] + fall * (2.0 * state[3] + fall * state[1])) + seconds;
            state[3] = scale * (state[3] + fall * state[1]) + firsts;
            state[1] = scale * state[1] + exponentials;
            state[0] = highest;
        }
        let target = target.wrapping_sub(params.first_column);
        if target < params.width {
            state[2] = row[target as usize];
        }
    });
}

multiversioned! {
    /// The sums of e^x, e^x x and e^x x² for x = value - highest, in a fixed order.
    fn moments(values: &[f32], highest: f32) -> [f32; 3] {
        const LANES: usize = 16;
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [[0.0f32; LANES]; 3];
        for chunk in chunks {
            for i in 0..LANES {
                let below = (chunk[i] - highest).max(FARTHEST);
                let exponential = exp(below);
                lanes[0][i] += exponential;
                lanes[1][i] += exponential * below;
                lanes[2][i] += exponential * below * below;
            }
        }
        let mut sums = lanes.map(|lanes| sum(&lanes));
        for value in rest {
            let below = (value - highest).max(FARTHEST);
            let exponential = exp(below);
            sums[0] += exponential;
            sums[1] += exponential * below;
            sums[2] += exponential * below * below;
        }
        sums
    }
}
