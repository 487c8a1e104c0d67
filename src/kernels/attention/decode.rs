//! Attention of one new token per sequence to the cached keys and values of its sequence.

use rayon::prelude::*;

use super::{Heads, softmax};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{add_scaled, dot, multiversioned};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "attention/decode", summary: "attention of one new token per sequence to a cache" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_DECODE {
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
        /// Columns of a head.
        head_dim: u32,
        /// Factor of the scores.
        scale: f32,
        /// Rows of the cache that belong to one sequence.
        capacity: u32,
    }
}

/// How many keys each sequence has in its cache, the new token's included.
#[derive(Clone, Copy, Debug)]
pub struct Lengths<'a> {
    /// A `u32` for each sequence.
    pub buffer: &'a Buffer,
    /// Keys of all sequences together.
    pub tokens: u64,
}

/// Computes `out` `[batch, heads * head_dim]`. `qkv` `[batch, heads.qkv_width()]` holds one new token per sequence, whose key
/// and value are in the cache already: `keys` and `values` `[batch * capacity, kv_heads * head_dim]`, of which sequence n
/// attends to the first `lengths[n]` (`[batch]` `u32`, at least 1, at most `capacity`) of its rows.
///
/// # Errors
/// When the heads are not supported, a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    heads: Heads,
    scale: f32,
    batch: usize,
    capacity: usize,
    qkv: &Buffer,
    lengths: Lengths<'_>,
    keys: &Buffer,
    values: &Buffer,
    out: &Buffer,
) -> Result<()> {
    let [all, kv_heads, head_dim] = heads.checked()?;
    index(batch * capacity * heads.kv_width())?;
    let params = Params { heads: all, kv_heads, head_dim, scale, capacity: index(capacity)? };
    let workgroups = [all, index(batch)?, 1];
    launch(
        device,
        KERNEL.name,
        "",
        &params,
        &[qkv, lengths.buffer, keys, values, out],
        workgroups,
        cost(&params, batch, lengths.tokens),
        |buffers| {
            let (qkv, lengths, out) = (buffers.read(1), buffers.read::<u32>(2), &mut buffers.write(5));
            cpu(&params, &qkv, &lengths[..batch], &buffers.read(3), &buffers.read(4), out);
        },
    )
}

/// What one launch on `batch` sequences costs that have `keys` keys in all: an exponential counts as one operation.
pub fn cost(params: &Params, batch: usize, keys: u64) -> Cost {
    let [heads, kv_heads, width] = [params.heads, params.kv_heads, params.head_dim].map(u64::from);
    let batch = batch as u64;
    Cost {
        bytes: 4 * (2 * keys * kv_heads * width + batch * (2 * heads * width + 1)),
        operations: heads * keys * (4 * width + 2),
    }
}

/// The shader's sums, plainly: with the online softmax one key at a time.
pub fn reference<R: Real>(params: &Params, qkv: &[R], lengths: &[u32], keys: &[R], values: &[R], out: &mut [R]) {
    let heads = Heads::of([params.heads, params.kv_heads, params.head_dim]);
    let (width, scale) = (heads.head_dim, R::real(f64::from(params.scale)));
    for (sequence, length) in lengths.iter().enumerate() {
        let first = sequence * params.capacity as usize;
        for head in 0..heads.heads {
            let q_row = sequence * heads.qkv_width() + head * width;
            let mut largest = R::real(-3.0e38);
            let mut weights = R::default();
            let mut sums = vec![R::default(); width];
            for key in 0..(*length).min(params.capacity) as usize {
                let row = (first + key) * heads.kv_width() + head / heads.group() * width;
                let mut score = R::default();
                for c in 0..width {
                    score += qkv[q_row + c] * keys[row + c];
                }
                let score = scale * score;
                let now_largest = if score > largest { score } else { largest };
                let shrink = (largest - now_largest).exp();
                let weight = (score - now_largest).exp();
                largest = now_largest;
                weights = weights * shrink + weight;
                for c in 0..width {
                    sums[c] = sums[c] * shrink + weight * values[row + c];
                }
            }
            for c in 0..width {
                out[(sequence * heads.heads + head) * width + c] = sums[c] / weights;
            }
        }
    }
}

/// The fast form on the CPU: over sequences and heads in parallel.
pub fn cpu(params: &Params, qkv: &[f32], lengths: &[u32], keys: &[f32], values: &[f32], out: &mut [f32]) {
    let heads = Heads::of([params.heads, params.kv_heads, params.head_dim]);
    let width = heads.head_dim;
    let outputs = out[..lengths.len() * heads.width()].par_chunks_exact_mut(width).enumerate();
    outputs.for_each_init(Vec::new, |scores: &mut Vec<f32>, (n, out)| {
        let (sequence, head) = (n / heads.heads, n % heads.heads);
        let query = &qkv[sequence * heads.qkv_width() + head * width..][..width];
        scores.resize(lengths[sequence].min(params.capacity) as usize, 0.0);
        let start = sequence * params.capacity as usize * heads.kv_width() + head / heads.group() * width;
        attend(query, &keys[start..], &values[start..], heads.kv_width(), params.scale, scores, out);
    });
}

multiversioned! {
    /// One query and as many keys as there are scores, `stride` apart.
    fn attend(
        query: &[f32],
        keys: &[f32],
        values: &[f32],
        stride: usize,
        scale: f32,
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        for (score, key) in scores.iter_mut().zip(keys.chunks(stride)) {
            *score = dot(query, key);
        }
        softmax(scores, scale);
        out.fill(0.0);
        for (weight, value) in scores.iter().zip(values.chunks(stride)) {
            add_scaled(out, *weight, value);
        }
    }
}
