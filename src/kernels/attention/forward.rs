//! Causal attention within samples: `out[t, h] = Σ_k softmax_k(scale q[t, h]·k[k, h']) v[k, h']` over the sample's keys
//! `k ≤ t` (Vaswani et al. 2017), tiled with an online softmax (Dao et al. 2022) on the GPU.

use rayon::prelude::*;

use super::{Heads, Tiles, blocks, cut, rows_of, samples, softmax};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::dense::{product, view, view_mut};
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
        /// Columns of a head.
        head_dim: u32,
        /// Factor of the scores.
        scale: f32,
    }
}

/// Computes `out` `[tokens, heads * head_dim]` from `qkv` `[tokens, heads.qkv_width()]`, and for backward `log_sums`
/// `[tokens, heads]`: the logarithm of the sum of each query's exponentials. `tiles` cut all `tokens`.
///
/// # Errors
/// When the heads are not supported, a buffer is too small or the device failed.
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
    let [all, kv_heads, head_dim] = heads.checked()?;
    index(tokens * heads.qkv_width())?;
    let params = Params { heads: all, kv_heads, head_dim, scale };
    let workgroups = [index(tiles.count)?, all, 1];
    let operands = [tiles.buffer, qkv, out, log_sums];
    launch(device, KERNEL.name, heads.variant(), &params, &operands, workgroups, cost(&params, tiles), |buffers| {
        let tile_words = &buffers.read(1)[..4 * tiles.count];
        cpu(&params, tile_words, &buffers.read(2), &mut buffers.write(3), &mut buffers.write(4));
    })
}

/// What one launch costs on these tiles: an exponential counts as one operation.
pub fn cost(params: &Params, tiles: Tiles<'_>) -> Cost {
    let [heads, kv_heads, width] = [params.heads, params.kv_heads, params.head_dim].map(u64::from);
    let Tiles { tokens, pairs, .. } = tiles;
    Cost {
        bytes: 4 * tokens * ((2 * heads + 2 * kv_heads) * width + heads),
        operations: heads * pairs * (4 * width + 2),
    }
}

/// The shader's sums, plainly: a query at a time, with the online softmax one key at a time.
pub fn reference<R: Real>(params: &Params, tiles: &[u32], qkv: &[R], out: &mut [R], log_sums: &mut [R]) {
    let heads = Heads::of([params.heads, params.kv_heads, params.head_dim]);
    let (stride, width, scale) = (heads.qkv_width(), heads.head_dim, R::real(f64::from(params.scale)));
    for tile in tiles.chunks_exact(4) {
        let [first, count, sample, _] = [tile[0], tile[1], tile[2], tile[3]].map(|n| n as usize);
        for head in 0..heads.heads {
            let kv_head = head / heads.group();
            for query in first..first + count {
                let mut largest = R::real(-3.0e38);
                let mut weights = R::default();
                let mut sums = vec![R::default(); width];
                for key in sample..=query {
                    let mut score = R::default();
                    for c in 0..width {
                        let k = qkv[key * stride + heads.k_offset() + kv_head * width + c];
                        score += qkv[query * stride + head * width + c] * k;
                    }
                    let score = scale * score;
                    let now_largest = if score > largest { score } else { largest };
                    let shrink = (largest - now_largest).exp();
                    let weight = (score - now_largest).exp();
                    largest = now_largest;
                    weights = weights * shrink + weight;
                    for c in 0..width {
                        let value = qkv[key * stride + heads.v_offset() + kv_head * width + c];
                        sums[c] = sums[c] * shrink + weight * value;
                    }
                }
                for c in 0..width {
                    out[query * heads.width() + head * width + c] = sums[c] / weights;
                }
                log_sums[query * heads.heads + head] = largest + weights.ln();
            }
        }
    }
}

/// The fast form on the CPU: over samples and heads in parallel, blocks of scores through dense products.
pub fn cpu(params: &Params, tiles: &[u32], qkv: &[f32], out: &mut [f32], log_sums: &mut [f32]) {
    let heads = Heads::of([params.heads, params.kv_heads, params.head_dim]);
    let (stride, width) = (heads.qkv_width(), heads.head_dim);
    let samples = samples(tiles);
    let outputs = cut(out, heads.width(), &samples, 0, width, heads.heads);
    let log_sums = cut(log_sums, heads.heads, &samples, 0, 1, heads.heads);
    let parts = outputs.into_par_iter().zip(log_sums).enumerate();
    parts.for_each_init(Vec::new, |scratch: &mut Vec<f32>, (n, (mut out, mut log_sums))| {
        let (sample, head) = (&samples[n / heads.heads], n % heads.heads);
        let joint = |column: usize| rows_of(qkv, stride, sample.clone(), column, width);
        let kv_column = head / heads.group() * width;
        let queries = joint(head * width);
        let (keys, values) = (joint(heads.k_offset() + kv_column), joint(heads.v_offset() + kv_column));
        for block in blocks(sample.len()) {
            let (rows, visible) = (block.len(), block.end);
            scratch.resize(rows * visible, 0.0);
            let scores = view_mut(scratch, rows, visible, visible);
            let block_queries = queries.subrows(block.start, rows);
            product(scores, false, block_queries, keys.subrows(0, visible).transpose(), false);
            for (query, row) in block.clone().zip(scratch.chunks_exact_mut(visible)) {
                log_sums[(query, 0)] = softmax(&mut row[..=query], params.scale);
                row[query + 1..].fill(0.0);
            }
            let weights = view(scratch, rows, visible, visible);
            let out = out.as_mut().subrows_mut(block.start, rows);
            product(out, false, weights, values.subrows(0, visible), false);
        }
    });
}
