//! Gradient of causal attention at the queries: with `p = exp(scale q·k - log_sum)` and `row_dot = Σ out ⊙ d_out`, the
//! gradient at a score is `p (d_out·v - row_dot)` and `dq = scale Σ_k p (d_out·v - row_dot) k` (Dao et al. 2022).

use rayon::prelude::*;

use super::{HeadRows, Heads, Tiles, blocks, cut, samples};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::dense::{product, view};
use crate::kernels::lanes::dot;
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "attention/query_grad", summary: "gradient of attention at the queries" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_QUERY_GRAD {
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

/// Writes the queries' columns of `d_qkv` `[tokens, heads.qkv_width()]` and `row_dots` `[tokens, heads]`, which
/// [`key_value_grad`](super::key_value_grad) reads. `out` and `log_sums` are those of [`forward`](super::forward), `d_out` is
/// the gradient at `out`.
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
    d_out: &Buffer,
    log_sums: &Buffer,
    row_dots: &Buffer,
    d_qkv: &Buffer,
) -> Result<()> {
    let [all, kv_heads, head_dim] = heads.checked()?;
    index(tokens * heads.qkv_width())?;
    let params = Params { heads: all, kv_heads, head_dim, scale };
    let workgroups = [index(tiles.count)?, all, 1];
    let operands = [tiles.buffer, qkv, out, d_out, log_sums, row_dots, d_qkv];
    launch(device, KERNEL.name, heads.variant(), &params, &operands, workgroups, cost(&params, tiles), |buffers| {
        let tile_words = &buffers.read(1)[..4 * tiles.count];
        let (qkv, out, d_out) = (buffers.read(2), buffers.read(3), buffers.read(4));
        let log_sums = buffers.read(5);
        cpu(&params, tile_words, &qkv, &out, &d_out, &log_sums, &mut buffers.write(6), &mut buffers.write(7));
    })
}

/// What one launch costs on these tiles: an exponential counts as one operation.
pub fn cost(params: &Params, tiles: Tiles<'_>) -> Cost {
    let [heads, kv_heads, width] = [params.heads, params.kv_heads, params.head_dim].map(u64::from);
    let Tiles { tokens, pairs, .. } = tiles;
    Cost {
        bytes: 4 * tokens * ((4 * heads + 2 * kv_heads) * width + 2 * heads),
        operations: heads * (pairs * (6 * width + 4) + 2 * tokens * width),
    }
}

/// The shader's sums, plainly.
pub fn reference<R: Real>(
    params: &Params,
    tiles: &[u32],
    qkv: &[R],
    out: &[R],
    d_out: &[R],
    log_sums: &[R],
    row_dots: &mut [R],
    d_qkv: &mut [R],
) {
    let heads = Heads::of([params.heads, params.kv_heads, params.head_dim]);
    let (stride, width, scale) = (heads.qkv_width(), heads.head_dim, R::real(f64::from(params.scale)));
    for tile in tiles.chunks_exact(4) {
        let [first, count, sample, _] = [tile[0], tile[1], tile[2], tile[3]].map(|n| n as usize);
        for head in 0..heads.heads {
            let kv_head = head / heads.group();
            for query in first..first + count {
                let out_row = query * heads.width() + head * width;
                let mut row_dot = R::default();
                for c in 0..width {
                    row_dot += out[out_row + c] * d_out[out_row + c];
                }
                row_dots[query * heads.heads + head] = row_dot;
                let mut sums = vec![R::default(); width];
                for key in sample..=query {
                    let k_row = key * stride + heads.k_offset() + kv_head * width;
                    let v_row = key * stride + heads.v_offset() + kv_head * width;
                    let (mut score, mut d_weight) = (R::default(), R::default());
                    for c in 0..width {
                        score += qkv[query * stride + head * width + c] * qkv[k_row + c];
                        d_weight += d_out[out_row + c] * qkv[v_row + c];
                    }
                    let weight = (scale * score - log_sums[query * heads.heads + head]).exp();
                    let gradient = weight * (d_weight - row_dot) * scale;
                    for c in 0..width {
                        sums[c] += gradient * qkv[k_row + c];
                    }
                }
                d_qkv[query * stride + head * width..][..width].copy_from_slice(&sums);
            }
        }
    }
}

/// The fast form on the CPU: over samples and heads in parallel, blocks of scores through dense products.
pub fn cpu(
    params: &Params,
    tiles: &[u32],
    qkv: &[f32],
    out: &[f32],
    d_out: &[f32],
    log_sums: &[f32],
    row_dots: &mut [f32],
    d_qkv: &mut [f32],
) {
    let heads = Heads::of([params.heads, params.kv_heads, params.head_dim]);
    let width = heads.head_dim;
    let samples = samples(tiles);
    let d_queries = cut(d_qkv, heads.qkv_width(), &samples, 0, width, heads.heads);
    let row_dots = cut(row_dots, heads.heads, &samples, 0, 1, heads.heads);
    let parts = d_queries.into_par_iter().zip(row_dots).enumerate();
    parts.for_each_init(
        Default::default,
        |(weights, gradients): &mut (Vec<f32>, Vec<f32>), (n, (mut d_q, mut dots))| {
            let (sample, head) = (&samples[n / heads.heads], n % heads.heads);
            let rows = HeadRows::new(&heads, sample, head, qkv, d_out);
            for query in 0..sample.len() {
                let row = (sample.start + query) * heads.width() + head * width;
                dots[(query, 0)] = dot(&out[row..][..width], &d_out[row..][..width]);
            }
            let log_sum = |query: usize| log_sums[(sample.start + query) * heads.heads + head];
            for block in blocks(sample.len()) {
                let (count, visible) = (block.len(), block.end);
                let row_dot = |query: usize| dots[(query, 0)];
                rows.weights_and_gradients(block.clone(), params.scale, log_sum, row_dot, weights, gradients);
                let d_queries = d_q.as_mut().subrows_mut(block.start, count);
                let gradients = view(gradients, count, visible, visible);
                product(d_queries, false, gradients, rows.keys.subrows(0, visible), false);
            }
        },
    );
}
