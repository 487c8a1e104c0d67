//! A token drawn from each position's distribution by the Gumbel-max trick (Gumbel 1954), a slice of the vocabulary at a
//! time. The noise is a hash of the seed, the token's place in the data set and the column.

use rayon::prelude::*;

use super::fold_best;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "loss/sample_labels", summary: "a token drawn from the model's distribution" };

kernel_params! {
    /// The shader's parameters.
    Params = LOSS_SAMPLE_LABELS {
        /// Number of tokens.
        tokens: u32,
        /// Columns of the slice.
        width: u32,
        /// Its first column in the vocabulary.
        first_column: u32,
        /// Lower half of the seed.
        seed_low: u32,
        /// Upper half of the seed.
        seed_high: u32,
    }
}

/// Folds `logits` `[tokens, width]` into `best` `[tokens, 2]`: bits of the highest noisy logit, and its column. `keys`
/// `[tokens, 2]` holds each token's sample number and position.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: usize,
    width: usize,
    first_column: usize,
    seed: u64,
    keys: &Buffer,
    logits: &Buffer,
    best: &Buffer,
) -> Result<()> {
    let (seed_low, seed_high) = (seed as u32, (seed >> 32) as u32);
    let params = Params {
        tokens: index(tokens)?,
        width: index(width)?,
        first_column: index(first_column)?,
        seed_low,
        seed_high,
    };
    launch(device, KERNEL.name, "", &params, &[keys, logits, best], [params.tokens, 1, 1], |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs; a logarithm counts as one operation.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 4 * (count + 6 * u64::from(params.tokens)), operations: 14 * count }
}

/// PCG's output permutation as a hash (Jarzynski and Olano 2020).
fn hash(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// What a position's columns are hashed with.
fn place(params: &Params, key: &[u32]) -> u32 {
    let seed = hash(params.seed_low ^ hash(params.seed_high));
    hash(key[0] ^ hash(key[1] ^ seed))
}

/// A number strictly between 0 and 1.
fn uniform(column: u32, place: u32) -> f32 {
    ((hash(column ^ place) >> 9) as f32 + 0.5) / 8_388_608.0
}

/// The shader's loop, plainly: scores and columns apart from their bits.
pub fn reference<R: Real>(params: &Params, keys: &[u32], logits: &[R], scores: &mut [R], columns: &mut [u32]) {
    for token in 0..params.tokens as usize {
        let place = place(params, &keys[2 * token..2 * token + 2]);
        for i in 0..params.width as usize {
            let column = params.first_column + i as u32;
            let noise = -(-R::real(f64::from(uniform(column, place))).ln()).ln();
            let noisy = logits[token * params.width as usize + i] + noise;
            if noisy > scores[token] || (noisy == scores[token] && column < columns[token]) {
                scores[token] = noisy;
                columns[token] = column;
            }
        }
    }
}

/// The fast form on the CPU: tokens in parallel.
pub fn cpu(params: &Params, keys: &[u32], logits: &[f32], best: &mut [u32]) {
    let rows = best.par_chunks_mut(2).zip(logits.par_chunks(params.width as usize)).zip(keys.par_chunks(2));
    rows.take(params.tokens as usize).for_each(|((best, row), key)| {
        let place = place(params, key);
        let noisy = (params.first_column..).zip(row).map(|(c, logit)| logit - (-uniform(c, place).ln()).ln());
        fold_best(best, params.first_column, noisy);
    });
}
