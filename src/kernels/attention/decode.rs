//! Attention of one new query per sequence over its cached keys and values.

use rayon::prelude::*;

use super::{Heads, add_scaled, dot};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "attention/decode", summary: "attention of one new query over a cache" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_DECODE {
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
        /// Width of a head.
        head_dim: u32,
        /// Rows of the cache for each sequence.
        capacity: u32,
        /// What scores are multiplied with.
        scale: f32,
    }
}

/// From joint rows `[batch, ...]`, one new token per sequence, to `out` `[batch, heads · head_dim]`. Sequence b attends to
/// the first `lengths[b]` of its `capacity` rows of `keys` and `values`, its own among them.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    heads: Heads,
    scale: f32,
    batch: usize,
    capacity: usize,
    qkv: &Buffer,
    lengths: &Buffer,
    keys: &Buffer,
    values: &Buffer,
    out: &Buffer,
) -> Result<()> {
    let params = Params {
        heads: index(heads.heads)?,
        kv_heads: index(heads.kv_heads)?,
        head_dim: index(heads.head_dim)?,
        capacity: index(capacity)?,
        scale,
    };
    let buffers = [qkv, lengths, keys, values, out];
    launch(device, KERNEL.name, "", &params, &buffers, [index(batch)?, params.heads, 1], |buffers| {
        let (qkv, lengths) = (buffers.read(1), buffers.read(2));
        cpu(&params, batch, &qkv, &lengths, &buffers.read(3), &buffers.read(4), &mut buffers.write(5));
    })
}

/// What one launch costs for caches of these lengths.
pub fn cost(params: &Params, lengths: &[usize]) -> Cost {
    let pairs: u64 = lengths.iter().map(|n| *n as u64).sum();
    let (heads, kv_heads) = (u64::from(params.heads), u64::from(params.kv_heads));
    let dim = u64::from(params.head_dim);
    Cost {
        bytes: 4 * dim * (2 * pairs * kv_heads + lengths.len() as u64 * 2 * heads),
        operations: pairs * heads * (4 * dim + 2),
    }
}

/// Where a key or value lies in the cache.
fn cached(params: &Params, sequence: usize, token: usize, head: usize) -> usize {
    let kv_head = head / (params.heads / params.kv_heads) as usize;
    let row = sequence * params.capacity as usize + token;
    (row * params.kv_heads as usize + kv_head) * params.head_dim as usize
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(
    params: &Params,
    batch: usize,
    qkv: &[R],
    lengths: &[u32],
    keys: &[R],
    values: &[R],
    out: &mut [R],
) {
    let (heads, dim) = (params.heads as usize, params.head_dim as usize);
    let stride = (heads + 2 * params.kv_heads as usize) * dim;
    for sequence in 0..batch {
        for head in 0..heads {
            let score = |token: usize| {
                let key = cached(params, sequence, token, head);
                let mut product = R::default();
                for d in 0..dim {
                    product += qkv[sequence * stride + head * dim + d] * keys[key + d];
                }
                product * R::real(f64::from(params.scale))
            };
            let length = lengths[sequence] as usize;
            let mut maximum = score(0);
            for token in 1..length {
                if score(token) > maximum {
                    maximum = score(token);
                }
            }
            let mut sum = R::default();
            for token in 0..length {
                sum += (score(token) - maximum).exp();
            }
            for d in 0..dim {
                let mut mixed = R::default();
                for token in 0..length {
                    mixed += (score(token) - maximum).exp() * values[cached(params, sequence, token, head) + d];
                }
                out[(sequence * heads + head) * dim + d] = mixed / sum;
            }
        }
    }
}

/// The fast form on the CPU: sequences and heads in parallel.
pub fn cpu(params: &Params, batch: usize, qkv: &[f32], lengths: &[u32], keys: &[f32], values: &[f32], out: &mut [f32]) {
    let (heads, dim) = (params.heads as usize, params.head_dim as usize);
    let stride = (heads + 2 * params.kv_heads as usize) * dim;
    let rows = out.par_chunks_mut(dim).take(batch * heads).enumerate();
    rows.for_each_init(Vec::new, |scores: &mut Vec<f32>, (n, mixed)| {
        let (sequence, head) = (n / heads, n % heads);
        let query = &qkv[sequence * stride + head * dim..][..dim];
        scores.clear();
        let tokens = 0..lengths[sequence] as usize;
        let score = |token| dot(query, &keys[cached(params, sequence, token, head)..][..dim]) * params.scale;
        scores.extend(tokens.map(score));
        let maximum = scores.iter().copied().fold(f32::MIN, f32::max);
        scores.iter_mut().for_each(|score| *score = (*score - maximum).exp());
        let sum: f32 = scores.iter().sum();
        mixed.fill(0.0);
        for (token, weight) in scores.iter().enumerate() {
            add_scaled(mixed, weight / sum, &values[cached(params, sequence, token, head)..][..dim]);
        }
    });
}
