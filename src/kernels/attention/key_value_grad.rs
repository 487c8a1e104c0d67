//! Gradient of causal attention at the keys and values: with `p = exp(scale q·k - log_sum)` and `row_dot = Σ out ⊙ d_out`,
//! summed over the queries that see the key and the query heads that share it, `dv = Σ p d_out` and
//! `dk = scale Σ p (d_out·v - row_dot) q` (Dao et al. 2022).

use rayon::prelude::*;

use super::{HeadRows, Heads, Tiles, blocks, cut, samples};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::dense::{product, view};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "attention/key_value_grad", summary: "gradient of attention at the keys and values" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_KEY_VALUE_GRAD {
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

/// Writes the keys' and values' columns of `d_qkv` `[tokens, heads.qkv_width()]`. `log_sums` are those of
/// [`forward`](super::forward), `row_dots` those of [`query_grad`](super::query_grad), `d_out` is the gradient at the output.
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
    d_out: &Buffer,
    log_sums: &Buffer,
    row_dots: &Buffer,
    d_qkv: &Buffer,
) -> Result<()> {
    let [all, kv_heads, head_dim] = heads.checked()?;
    index(tokens * heads.qkv_width())?;
    let params = Params { heads: all, kv_heads, head_dim, scale };
    let workgroups = [index(tiles.count)?, kv_heads, 1];
    let operands = [tiles.buffer, qkv, d_out, log_sums, row_dots, d_qkv];
    launch(device, KERNEL.name, heads.variant(), &params, &operands, workgroups, cost(&params, tiles), |buffers| {
        let tile_words = &buffers.read(1)[..4 * tiles.count];
        let (qkv, d_out) = (buffers.read(2), buffers.read(3));
        let (log_sums, row_dots) = (buffers.read(4), buffers.read(5));
        cpu(&params, tile_words, &qkv, &d_out, &log_sums, &row_dots, &mut buffers.write(6));
    })
}

/// What one launch costs on these tiles: an exponential counts as one operation.
pub fn cost(params: &Params, tiles: Tiles<'_>) -> Cost {
    let [heads, kv_heads, width] = [params.heads, params.kv_heads, params.head_dim].map(u64::from);
    let Tiles { tokens, pairs, .. } = tiles;
    Cost {
        bytes: 4 * tokens * ((2 * heads + 4 * kv_heads) * width + 2 * heads),
        operations: heads * pairs * (8 * width + 4),
    }
}

/// The shader's sums, plainly.
pub fn reference<R: Real>(
    params: &Params,
    tiles: &[u32],
    qkv: &[R],
    d_out: &[R],
    log_sums: &[R],
    row_dots: &[R],
    d_qkv: &mut [R],
) {
    let heads = Heads::of([params.heads, params.kv_heads, params.head_dim]);
    let (stride, width, scale) = (heads.qkv_width(), heads.head_dim, R::real(f64::from(params.scale)));
    for tile in tiles.chunks_exact(4) {
        let [first, count, _, sample_end] = [tile[0], tile[1], tile[2], tile[3]].map(|n| n as usize);
        for kv_head in 0..heads.kv_heads {
            for key in first..first + count {
                let k_row = key * stride + heads.k_offset() + kv_head * width;
                let v_row = key * stride + heads.v_offset() + kv_head * width;
                let (mut k_sums, mut v_sums) = (vec![R::default(); width], vec![R::default(); width]);
                for head in kv_head * heads.group()..(kv_head + 1) * heads.group() {
                    for query in key..sample_end {
                        let q_row = query * stride + head * width;
                        let out_row = query * heads.width() + head * width;
                        let (mut score, mut d_weight) = (R::default(), R::default());
                        for c in 0..width {
                            score += qkv[k_row + c] * qkv[q_row + c];
                            d_weight += qkv[v_row + c] * d_out[out_row + c];
                        }
                        let place = query * heads.heads + head;
                        let weight = (scale * score - log_sums[place]).exp();
                        let gradient = weight * (d_weight - row_dots[place]) * scale;
                        for c in 0..width {
                            k_sums[c] += gradient * qkv[q_row + c];
                            v_sums[c] += weight * d_out[out_row + c];
                        }
                    }
                }
                d_qkv[k_row..][..width].copy_from_slice(&k_sums);
                d_qkv[v_row..][..width].copy_from_slice(&v_sums);
            }
        }
    }
}

/// The fast form on the CPU: over samples and heads in parallel, blocks of scores through dense products.
pub fn cpu(
    params: &Params,
    tiles: &[u32],
    qkv: &[f32],
    d_out: &[f32],
    log_sums: &[f32],
    row_dots: &[f32],
    d_qkv: &mut [f32],
) {
    let heads = Heads::of([params.heads, params.kv_heads, params.head_dim]);
    let width = heads.head_dim;
    let samples = samples(tiles);
    // A sample's parts: first the heads of keys, then those of values.
    let mut parts = cut(d_qkv, heads.qkv_width(), &samples, heads.k_offset(), width, 2 * heads.kv_heads);
    let work = parts.par_chunks_mut(2 * heads.kv_heads).enumerate().flat_map(|(n, parts)| {
        let (keys, values) = parts.split_at_mut(heads.kv_heads);
        keys.par_iter_mut().zip(values).enumerate().map(move |(kv_head, parts)| (n, kv_head, parts))
    });
    work.for_each_init(Default::default, |scratch: &mut (Vec<f32>, Vec<f32>), (n, kv_head, (d_keys, d_values))| {
        let ((weights, gradients), sample) = (scratch, &samples[n]);
        d_keys.fill(0.0);
        d_values.fill(0.0);
        for head in kv_head * heads.group()..(kv_head + 1) * heads.group() {
            let rows = HeadRows::new(&heads, sample, head, qkv, d_out);
            let at = |query: usize| (sample.start + query) * heads.heads + head;
            let (log_sum, row_dot) = (|query| log_sums[at(query)], |query| row_dots[at(query)]);
            for block in blocks(sample.len()) {
                let (count, visible) = (block.len(), block.end);
                rows.weights_and_gradients(block.clone(), params.scale, log_sum, row_dot, weights, gradients);
                let transposed = |scores| view(scores, count, visible, visible).transpose();
                let d_keys = d_keys.as_mut().subrows_mut(0, visible);
                product(d_keys, true, transposed(gradients), rows.queries.subrows(block.start, count), false);
                let d_values = d_values.as_mut().subrows_mut(0, visible);
                product(d_values, true, transposed(weights), rows.d_out.subrows(block.start, count), false);
            }
        }
    });
}
