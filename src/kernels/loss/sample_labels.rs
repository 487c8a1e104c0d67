//! A token drawn from each position's distribution by the Gumbel-max trick (Gumbel 1954), a slice of the vocabulary at a
//! time. The noise is a function of the seed, the token's place in the data set and the column.

use rayon::prelude::*;

use super::fold_best;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, index, launch, row_grid};

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
        /// What logits are divided by: the noise is multiplied instead.
        temperature: f32,
    }
}

/// Folds `logits` `[tokens, width]` into `best` `[tokens, 2]`: bits of the highest noisy logit, and its column. `keys`
/// `[tokens, 2]` holds each token's sample number and position. Tokens are drawn from the softmax of logits divided by
/// `temperature`, above 0: 1 is the model's own distribution.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: usize,
    width: usize,
    first_column: usize,
    seed: u64,
    temperature: f32,
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
        temperature,
    };
    launch(device, KERNEL.name, "", &params, &[keys, logits, best], row_grid(tokens), cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs: about 60 operations a column for the random bits and 14 for the noise.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 4 * (count + 6 * u64::from(params.tokens)), operations: 75 * count }
}

/// Columns that share a counter of the generator.
const PER_COUNTER: u32 = 4;

/// 128 random bits for a counter and a key: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
/// 1, 2, 3").
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const ROUNDS: usize = 10;
    const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
    const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
    for _ in 0..ROUNDS {
        let products = [0, 1].map(|i| u64::from(MULTIPLIERS[i]) * u64::from(counter[2 * i]));
        let [high0, high1] = products.map(|product| (product >> 32) as u32);
        let [low0, low1] = products.map(|product| product as u32);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The columns of a row with their logits and noise.
fn noisy<R: Real>(params: &Params, key: [u32; 2], row: &[R]) -> impl Iterator<Item = R> {
    let seed = [params.seed_low, params.seed_high];
    let temperature = R::real(f64::from(params.temperature));
    let first_counter = params.first_column / PER_COUNTER;
    (first_counter..).zip(row.chunks(PER_COUNTER as usize)).flat_map(move |(counter, logits)| {
        let bits = philox([key[0], key[1], counter, 0], seed);
        logits.iter().zip(bits).map(move |(logit, bits)| *logit + temperature * gumbel(uniform_number(bits)))
    })
}

/// Strictly between 0 and 1, and held by an `f32` exactly.
fn uniform_number(bits: u32) -> f64 {
    let kept = if bits < 1 << 24 { bits | 1 } else { bits & 0xffff_ff00 };
    f64::from(kept) / 4_294_967_296.0
}

/// A draw from the standard Gumbel distribution, −ln(−ln(1 − v)). The largest values come from logarithms of numbers near
/// 1, where a device's logarithm may be off by more than its result: there the series takes its place.
fn gumbel<R: Real>(v: f64) -> R {
    const SERIES_BELOW: f64 = 0.0625;
    let number = R::real(v);
    let exponential = if v < SERIES_BELOW {
        (1..=6).rev().fold(R::default(), |series, n| number * (series + R::real(1.0 / f64::from(n))))
    } else {
        -(R::real(1.0) - number).ln()
    };
    -exponential.ln()
}

/// The shader's loop, plainly: scores and columns apart from their bits.
pub fn reference<R: Real>(params: &Params, keys: &[u32], logits: &[R], scores: &mut [R], columns: &mut [u32]) {
    let width = params.width as usize;
    for token in 0..params.tokens as usize {
        let row = &logits[token * width..(token + 1) * width];
        let key = [keys[2 * token], keys[2 * token + 1]];
        for (column, noisy) in (params.first_column..).zip(noisy(params, key, row)) {
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
        fold_best(best, params.first_column, noisy(params, [key[0], key[1]], row));
    });
}
