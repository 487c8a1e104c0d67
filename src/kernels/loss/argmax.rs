//! The likeliest token of each position, a slice of the vocabulary at a time; of equals the first wins.

use rayon::prelude::*;

use super::fold_best;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, index, launch, row_grid};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "loss/argmax", summary: "running arg max over slices of the vocabulary" };

kernel_params! {
    /// The shader's parameters.
    Params = LOSS_ARGMAX {
        /// Number of tokens.
        tokens: u32,
        /// Columns of the slice.
        width: u32,
        /// Its first column in the vocabulary.
        first_column: u32,
    }
}

/// Folds `logits` `[tokens, width]` into `best` `[tokens, 2]`: bits of the largest logit, and its column.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: usize,
    width: usize,
    first_column: usize,
    logits: &Buffer,
    best: &Buffer,
) -> Result<()> {
    let params = Params { tokens: index(tokens)?, width: index(width)?, first_column: index(first_column)? };
    launch(device, KERNEL.name, "", &params, &[logits, best], row_grid(tokens), cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &mut buffers.write(2));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 4 * (count + 4 * u64::from(params.tokens)), operations: count }
}

/// The shader's loop, plainly: scores and columns apart from their bits.
pub fn reference<R: Real>(params: &Params, logits: &[R], scores: &mut [R], columns: &mut [u32]) {
    for token in 0..params.tokens as usize {
        for i in 0..params.width as usize {
            let (logit, column) = (logits[token * params.width as usize + i], params.first_column + i as u32);
            if logit > scores[token] || (logit == scores[token] && column < columns[token]) {
                scores[token] = logit;
                columns[token] = column;
            }
        }
    }
}

/// The fast form on the CPU: tokens in parallel.
pub fn cpu(params: &Params, logits: &[f32], best: &mut [u32]) {
    let rows = best.par_chunks_mut(2).zip(logits.par_chunks(params.width as usize)).take(params.tokens as usize);
    rows.for_each(|(best, row)| fold_best(best, params.first_column, row.iter().copied()));
}
