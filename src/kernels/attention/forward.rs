//! Causal attention with grouped heads: `out = Σ softmax(scale q·k) v` over the sample's tokens up to the query, with the
//! log-sum-exp of the scores kept for backward. Blocks of keys with an online softmax (Milakov and Gimelshein 2018; Dao et
//! al. 2022).

use rayon::prelude::*;

use super::{Heads, TILE, Tiles, add_scaled, dot, spans};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "attention/forward", summary: "causal attention with grouped heads" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_FORWARD {
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
        /// Width of a head.
        head_dim: u32,
        /// Number of tiles.
        tiles: u32,
        /// What scores are multiplied with.
        scale: f32,
    }
}

impl Params {
    fn shape(&self) -> Heads {
        Heads { heads: self.heads as usize, kv_heads: self.kv_heads as usize, head_dim: self.head_dim as usize }
    }
}

/// From joint rows `qkv` to `out` `[tokens, heads · head_dim]` and `log_sums` `[tokens, heads]`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    heads: Heads,
    scale: f32,
    tokens: usize,
    tiles: Tiles<'_>,
    qkv: &Buffer,
    out: &Buffer,
    log_sums: &Buffer,
) -> Result<()> {
    let params = Params {
        heads: index(heads.heads)?,
        kv_heads: index(heads.kv_heads)?,
        head_dim: index(heads.head_dim)?,
        tiles: index(tiles.count)?,
        scale,
    };
    let buffers = [tiles.buffer, qkv, out, log_sums];
    let workgroups = [index(tiles.count * TILE)?, index(heads.heads)?, 1];
    launch(device, KERNEL.name, "", &params, &buffers, workgroups, |buffers| {
        cpu(&params, tokens, &buffers.read(1), &buffers.read(2), &mut buffers.write(3), &mut buffers.write(4));
    })
}

/// What one launch costs for samples of these lengths.
pub fn cost(params: &Params, lengths: &[usize]) -> Cost {
    let heads = params.shape();
    let tokens: u64 = lengths.iter().map(|n| *n as u64).sum();
    let pairs: u64 = lengths.iter().map(|n| (n * (n + 1) / 2) as u64).sum();
    Cost {
        bytes: 4 * tokens * (heads.qkv_width() + heads.width() + heads.heads) as u64,
        operations: pairs * heads.heads as u64 * (4 * heads.head_dim as u64 + 2),
    }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, tokens: usize, tiles: &[u32], qkv: &[R], out: &mut [R], log_sums: &mut [R]) {
    let shape = params.shape();
    let (width, dim) = (shape.qkv_width(), shape.head_dim);
    let scale = R::real(f64::from(params.scale));
    for (token, (sample, _)) in spans(tiles, tokens).into_iter().enumerate() {
        for head in 0..shape.heads {
            let kv = head / (shape.heads / shape.kv_heads) * dim;
            let score = |key: usize| {
                let mut product = R::default();
                for d in 0..dim {
                    product += qkv[token * width + head * dim + d] * qkv[key * width + shape.k_offset() + kv + d];
                }
                product * scale
            };
            let mut maximum = score(sample);
            for key in sample..=token {
                if score(key) > maximum {
                    maximum = score(key);
                }
            }
            let mut sum = R::default();
            for key in sample..=token {
                sum += (score(key) - maximum).exp();
            }
            for d in 0..dim {
                let mut mixed = R::default();
                for key in sample..=token {
                    mixed += (score(key) - maximum).exp() * qkv[key * width + shape.v_offset() + kv + d];
                }
                out[(token * shape.heads + head) * dim + d] = mixed / sum;
            }
            log_sums[token * shape.heads + head] = maximum + sum.ln();
        }
    }
}

/// The fast form on the CPU: tokens in parallel, each with its scores in a row.
pub fn cpu(params: &Params, tokens: usize, tiles: &[u32], qkv: &[f32], out: &mut [f32], log_sums: &mut [f32]) {
    let shape = params.shape();
    let (width, dim, heads) = (shape.qkv_width(), shape.head_dim, shape.heads);
    let spans = spans(tiles, tokens);
    let rows = out.par_chunks_mut(heads * dim).zip(log_sums.par_chunks_mut(heads)).zip(&spans).take(tokens).enumerate();
    rows.with_min_len(8).for_each_init(Vec::new, |scores: &mut Vec<f32>, (token, ((out, log_sums), (sample, _)))| {
        for head in 0..heads {
            let kv = head / (heads / shape.kv_heads) * dim;
            let query = &qkv[token * width + head * dim..][..dim];
            scores.clear();
            let keys = *sample..=token;
            scores
                .extend(keys.map(|key| dot(query, &qkv[key * width + shape.k_offset() + kv..][..dim]) * params.scale));
            let maximum = scores.iter().copied().fold(f32::MIN, f32::max);
            scores.iter_mut().for_each(|score| *score = (*score - maximum).exp());
            let sum: f32 = scores.iter().sum();
            let mixed = &mut out[head * dim..(head + 1) * dim];
            mixed.fill(0.0);
            for (key, weight) in (*sample..).zip(scores.iter()) {
                add_scaled(mixed, weight / sum, &qkv[key * width + shape.v_offset() + kv..][..dim]);
            }
            log_sums[head] = maximum + sum.ln();
        }
    });
}
