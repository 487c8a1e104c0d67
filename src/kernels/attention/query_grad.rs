//! Attention's gradient at the queries. With `p = exp(scale q·k − log_sum)`, `D = Σ out · d_out` and `s = p (d_out·v − D)`:
//! `dq = scale Σ s k` (Dao et al. 2022, section B.2). Writes D for the gradient at keys and values.

use rayon::prelude::*;

use super::{Heads, TILE, Tiles, add_scaled, dot, spans};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "attention/query_grad", summary: "attention's gradient at the queries" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_QUERY_GRAD {
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

/// Writes the queries' part of `d_qkv` and D into `row_dots` `[tokens, heads]`.
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
    d_out: &Buffer,
    log_sums: &Buffer,
    row_dots: &Buffer,
    d_qkv: &Buffer,
) -> Result<()> {
    let params = Params {
        heads: index(heads.heads)?,
        kv_heads: index(heads.kv_heads)?,
        head_dim: index(heads.head_dim)?,
        tiles: index(tiles.count)?,
        scale,
    };
    let buffers = [tiles.buffer, qkv, out, d_out, log_sums, row_dots, d_qkv];
    let workgroups = [index(tiles.count * TILE)?, index(heads.heads)?, 1];
    launch(device, KERNEL.name, "", &params, &buffers, workgroups, |buffers| {
        let (tiles, qkv, out) = (buffers.read(1), buffers.read(2), buffers.read(3));
        let (d_out, log_sums) = (buffers.read(4), buffers.read(5));
        cpu(&params, tokens, &tiles, &qkv, &out, &d_out, &log_sums, &mut buffers.write(6), &mut buffers.write(7));
    })
}

/// What one launch costs for samples of these lengths.
pub fn cost(params: &Params, lengths: &[usize]) -> Cost {
    let heads = params.shape();
    let tokens: u64 = lengths.iter().map(|n| *n as u64).sum();
    let pairs: u64 = lengths.iter().map(|n| (n * (n + 1) / 2) as u64).sum();
    Cost {
        bytes: 4 * tokens * (heads.qkv_width() + 3 * heads.width() + 2 * heads.heads) as u64,
        operations: pairs * heads.heads as u64 * (6 * heads.head_dim as u64 + 4),
    }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(
    params: &Params,
    tokens: usize,
    tiles: &[u32],
    qkv: &[R],
    out: &[R],
    d_out: &[R],
    log_sums: &[R],
    row_dots: &mut [R],
    d_qkv: &mut [R],
) {
    let shape = params.shape();
    let (width, dim) = (shape.qkv_width(), shape.head_dim);
    let scale = R::real(f64::from(params.scale));
    for (token, (sample, _)) in spans(tiles, tokens).into_iter().enumerate() {
        for head in 0..shape.heads {
            let kv = head / (shape.heads / shape.kv_heads) * dim;
            let row = (token * shape.heads + head) * dim;
            let query = token * width + head * dim;
            let mut row_dot = R::default();
            for d in 0..dim {
                row_dot += d_out[row + d] * out[row + d];
                d_qkv[query + d] = R::default();
            }
            row_dots[token * shape.heads + head] = row_dot;
            for key in sample..=token {
                let (key_at, value_at) = (key * width + shape.k_offset() + kv, key * width + shape.v_offset() + kv);
                let (mut score, mut pulled) = (R::default(), R::default());
                for d in 0..dim {
                    score += qkv[query + d] * qkv[key_at + d];
                    pulled += d_out[row + d] * qkv[value_at + d];
                }
                let weight = (score * scale - log_sums[token * shape.heads + head]).exp();
                for d in 0..dim {
                    d_qkv[query + d] += weight * (pulled - row_dot) * scale * qkv[key_at + d];
                }
            }
        }
    }
}

/// The fast form on the CPU: tokens in parallel.
pub fn cpu(
    params: &Params,
    tokens: usize,
    tiles: &[u32],
    qkv: &[f32],
    out: &[f32],
    d_out: &[f32],
    log_sums: &[f32],
    row_dots: &mut [f32],
    d_qkv: &mut [f32],
) {
    let shape = params.shape();
    let (width, dim, heads) = (shape.qkv_width(), shape.head_dim, shape.heads);
    let spans = spans(tiles, tokens);
    let rows = d_qkv.par_chunks_mut(width).zip(row_dots.par_chunks_mut(heads)).zip(&spans).take(tokens).enumerate();
    rows.with_min_len(8).for_each(|(token, ((d_qkv, row_dots), (sample, _)))| {
        for head in 0..heads {
            let kv = head / (heads / shape.kv_heads) * dim;
            let row = (token * heads + head) * dim;
            let (query, d_out) = (&qkv[token * width + head * dim..][..dim], &d_out[row..row + dim]);
            let row_dot = dot(d_out, &out[row..row + dim]);
            row_dots[head] = row_dot;
            let gradient = &mut d_qkv[head * dim..(head + 1) * dim];
            gradient.fill(0.0);
            for key in *sample..=token {
                let key_row = &qkv[key * width..(key + 1) * width];
                let (key, value) = (&key_row[shape.k_offset() + kv..][..dim], &key_row[shape.v_offset() + kv..][..dim]);
                let weight = (dot(query, key) * params.scale - log_sums[token * heads + head]).exp();
                add_scaled(gradient, weight * (dot(d_out, value) - row_dot) * params.scale, key);
            }
        }
    });
}
