//! Attention's gradients at keys and values, summed over the query heads that share them and over the sample's later queries,
//! in order. With p and s as in `query_grad`: `dk = scale Σ s q`, `dv = Σ p d_out` (Dao et al. 2022, section B.2).

use rayon::prelude::*;

use super::{Heads, TILE, Tiles, add_scaled, dot, spans};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "attention/key_value_grad", summary: "attention's gradients at keys and values" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_KEY_VALUE_GRAD {
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

/// Writes the keys' and the values' part of `d_qkv`. `row_dots` comes from `query_grad`.
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
    let buffers = [tiles.buffer, qkv, d_out, log_sums, row_dots, d_qkv];
    let workgroups = [index(tiles.count * TILE)?, index(heads.kv_heads)?, 1];
    launch(device, KERNEL.name, "", &params, &buffers, workgroups, |buffers| {
        let (tiles, qkv, d_out) = (buffers.read(1), buffers.read(2), buffers.read(3));
        let (log_sums, row_dots) = (buffers.read(4), buffers.read(5));
        cpu(&params, tokens, &tiles, &qkv, &d_out, &log_sums, &row_dots, &mut buffers.write(6));
    })
}

/// What one launch costs for samples of these lengths.
pub fn cost(params: &Params, lengths: &[usize]) -> Cost {
    let heads = params.shape();
    let tokens: u64 = lengths.iter().map(|n| *n as u64).sum();
    let pairs: u64 = lengths.iter().map(|n| (n * (n + 1) / 2) as u64).sum();
    let keys = 2 * heads.kv_heads * heads.head_dim;
    Cost {
        bytes: 4 * tokens * (heads.qkv_width() + heads.width() + keys + 2 * heads.heads) as u64,
        operations: pairs * heads.heads as u64 * (8 * heads.head_dim as u64 + 4),
    }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(
    params: &Params,
    tokens: usize,
    tiles: &[u32],
    qkv: &[R],
    d_out: &[R],
    log_sums: &[R],
    row_dots: &[R],
    d_qkv: &mut [R],
) {
    let shape = params.shape();
    let (width, dim) = (shape.qkv_width(), shape.head_dim);
    let scale = R::real(f64::from(params.scale));
    let shared_by = shape.heads / shape.kv_heads;
    for (key, (_, end)) in spans(tiles, tokens).into_iter().enumerate() {
        for kv_head in 0..shape.kv_heads {
            let key_at = key * width + shape.k_offset() + kv_head * dim;
            let value_at = key * width + shape.v_offset() + kv_head * dim;
            for d in 0..dim {
                d_qkv[key_at + d] = R::default();
                d_qkv[value_at + d] = R::default();
            }
            for head in kv_head * shared_by..(kv_head + 1) * shared_by {
                for token in key..end {
                    let (query, row) = (token * width + head * dim, token * shape.heads + head);
                    let (mut score, mut pulled) = (R::default(), R::default());
                    for d in 0..dim {
                        score += qkv[query + d] * qkv[key_at + d];
                        pulled += d_out[row * dim + d] * qkv[value_at + d];
                    }
                    let weight = (score * scale - log_sums[row]).exp();
                    for d in 0..dim {
                        d_qkv[key_at + d] += weight * (pulled - row_dots[row]) * scale * qkv[query + d];
                        d_qkv[value_at + d] += weight * d_out[row * dim + d];
                    }
                }
            }
        }
    }
}

/// The fast form on the CPU: keys in parallel.
pub fn cpu(
    params: &Params,
    tokens: usize,
    tiles: &[u32],
    qkv: &[f32],
    d_out: &[f32],
    log_sums: &[f32],
    row_dots: &[f32],
    d_qkv: &mut [f32],
) {
    let shape = params.shape();
    let (width, dim, heads) = (shape.qkv_width(), shape.head_dim, shape.heads);
    let shared_by = heads / shape.kv_heads;
    let spans = spans(tiles, tokens);
    d_qkv.par_chunks_mut(width).zip(&spans).take(tokens).enumerate().with_min_len(8).for_each(
        |(key, (d_row, (_, end)))| {
            let (d_keys, d_values) = d_row[shape.k_offset()..].split_at_mut(shape.kv_heads * dim);
            for kv_head in 0..shape.kv_heads {
                let columns = kv_head * dim..(kv_head + 1) * dim;
                let key_row = &qkv[key * width..(key + 1) * width];
                let key_vector = &key_row[shape.k_offset()..][columns.clone()];
                let value_vector = &key_row[shape.v_offset()..][columns.clone()];
                let (d_key, d_value) = (&mut d_keys[columns.clone()], &mut d_values[columns]);
                d_key.fill(0.0);
                d_value.fill(0.0);
                for head in kv_head * shared_by..(kv_head + 1) * shared_by {
                    for token in key..*end {
                        let row = token * heads + head;
                        let query = &qkv[token * width + head * dim..][..dim];
                        let d_out = &d_out[row * dim..(row + 1) * dim];
                        let weight = (dot(query, key_vector) * params.scale - log_sums[row]).exp();
                        add_scaled(d_key, weight * (dot(d_out, value_vector) - row_dots[row]) * params.scale, query);
                        add_scaled(d_value, weight, d_out);
                    }
                }
            }
        },
    );
}
