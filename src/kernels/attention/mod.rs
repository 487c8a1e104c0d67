//! Kernels of causal attention with grouped heads, of its rotary embedding, and of decoding with a cache.
//!
//! Queries, keys and values lie side by side in a joint buffer `[tokens, heads * head_dim | kv_heads * head_dim | kv_heads *
//! head_dim]`. Samples are packed one after the other; the GPU cuts them into tiles of [`TILE`] tokens, the CPU twins take
//! a sample and a head at a time and form blocks of scores with dense products.

pub mod cache_append;
pub mod decode;
pub mod forward;
pub mod identity_pull;
pub mod key_value_grad;
pub mod query_grad;
pub mod rotary;

use std::ops::Range;

use faer::{MatMut, MatRef};

use crate::device::Buffer;
use crate::kernels::dense::{product, view, view_mut};
use crate::kernels::lanes::{exp, multiversioned};
use crate::kernels::{Kernel, index};
use crate::{Error, Result};

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[
    cache_append::KERNEL,
    decode::KERNEL,
    forward::KERNEL,
    identity_pull::KERNEL,
    key_value_grad::KERNEL,
    query_grad::KERNEL,
    rotary::KERNEL,
];

/// The widest head that the shaders have registers for.
const MAX_HEAD_DIM: usize = 256;

/// The heads of an attention layer. Query head `h` uses the keys and values of head `h / (heads / kv_heads)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads: a divisor of `heads`.
    pub kv_heads: usize,
    /// Columns of a head, at most 256.
    pub head_dim: usize,
}

impl Heads {
    /// Columns of the joint buffer: queries, keys and values.
    pub const fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Columns of the queries, and of the output.
    pub const fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of the keys, and of the values.
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The joint buffer's first column of keys.
    pub const fn k_offset(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The joint buffer's first column of values.
    pub const fn v_offset(&self) -> usize {
        (self.heads + self.kv_heads) * self.head_dim
    }

    /// Query heads that share one head of keys and values.
    const fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The numbers as the shaders take them.
    fn checked(&self) -> Result<[u32; 3]> {
        let Heads { heads, kv_heads, head_dim } = *self;
        if heads == 0 || kv_heads == 0 || heads % kv_heads != 0 || head_dim == 0 || head_dim > MAX_HEAD_DIM {
            return Err(Error::argument(format!(
                "attention with {heads} heads over {kv_heads} key-value heads of {head_dim} columns is not supported: the \
                 first is a multiple of the second, the columns are 1 to {MAX_HEAD_DIM}"
            )));
        }
        index(self.qkv_width())?;
        Ok([index(heads)?, index(kv_heads)?, index(head_dim)?])
    }

    /// The heads that a shader was told of: query heads, key and value heads, columns.
    fn of(numbers: [u32; 3]) -> Self {
        let [heads, kv_heads, head_dim] = numbers.map(|n| n as usize);
        Heads { heads, kv_heads, head_dim }
    }

    /// The permutation whose registers hold a head. It depends on the model only, never on the tokens.
    fn variant(&self) -> &'static str {
        match self.head_dim {
            ..=64 => "HEAD=64",
            65..=128 => "HEAD=128",
            _ => "HEAD=256",
        }
    }
}

/// The most tokens of a tile.
pub const TILE: usize = 16;

/// How the tokens of whole samples are cut into tiles: `[count, 4]` `u32`, as [`tiles`] makes them.
#[derive(Clone, Copy, Debug)]
pub struct Tiles<'a> {
    /// For each tile: first token, number of tokens, first token of the sample, end of the sample (exclusive).
    pub buffer: &'a Buffer,
    /// Number of tiles.
    pub count: usize,
    /// Tokens of all tiles together.
    pub tokens: u64,
    /// Pairs of a query and a key that it sees, in all tiles together.
    pub pairs: u64,
}

impl<'a> Tiles<'a> {
    /// The tiles `words`, which `buffer` holds a copy of.
    pub fn new(buffer: &'a Buffer, words: &[u32]) -> Self {
        let (tiles, _) = words.as_chunks::<4>();
        let seen = |[first, count, start, _]: &[u32; 4]| {
            let [before, count] = [first - start, *count].map(u64::from);
            count * before + count * (count + 1) / 2
        };
        Tiles {
            buffer,
            count: tiles.len(),
            tokens: tiles.iter().map(|[_, count, ..]| u64::from(*count)).sum(),
            pairs: tiles.iter().map(seen).sum(),
        }
    }
}

/// Cuts the samples `sample_offsets[n] .. sample_offsets[n + 1]` into tiles of at most [`TILE`] tokens: four numbers a
/// tile, as [`Tiles`] describes them.
pub fn tiles(sample_offsets: &[u32]) -> Vec<u32> {
    let mut tiles = Vec::new();
    for sample in sample_offsets.windows(2) {
        let (start, end) = (sample[0], sample[1]);
        for first in (start..end).step_by(TILE) {
            tiles.extend([first, (end - first).min(TILE as u32), start, end]);
        }
    }
    tiles
}

/// The samples that `tiles` were cut from.
fn samples(tiles: &[u32]) -> Vec<Range<usize>> {
    let (tiles, _) = tiles.as_chunks::<4>();
    tiles
        .iter()
        .filter(|[first, _, start, _]| first == start)
        .map(|[_, _, start, end]| *start as usize..*end as usize)
        .collect()
}

/// Query rows of a block of scores on the CPU: enough for a dense product to be fast, few enough for the block to stay in
/// the cache and for little of it to be above the diagonal.
const BLOCK: usize = 64;

/// The blocks of at most [`BLOCK`] rows of a sample of `tokens`.
fn blocks(tokens: usize) -> impl Iterator<Item = Range<usize>> {
    (0..tokens).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(tokens))
}

/// Columns `column .. column + width` of a sample's rows.
fn rows_of(values: &[f32], stride: usize, sample: Range<usize>, column: usize, width: usize) -> MatRef<'_, f32> {
    view(&values[sample.start * stride + column..], sample.len(), width, stride)
}

/// Cuts `count` windows of `width` columns next to each other, from `column` on, out of the rows of every sample of a
/// `[tokens, stride]` buffer: parts that can be written at the same time. Ordered by sample, then by window.
fn cut<'a>(
    values: &'a mut [f32],
    stride: usize,
    samples: &[Range<usize>],
    column: usize,
    width: usize,
    count: usize,
) -> Vec<MatMut<'a, f32>> {
    let tokens = values.len() / stride;
    let mut rest = view_mut(&mut values[..tokens * stride], tokens, stride, stride);
    let mut passed = 0;
    let mut parts = Vec::with_capacity(samples.len() * count);
    for sample in samples {
        let (rows, below) = rest.split_at_row_mut(sample.start - passed).1.split_at_row_mut(sample.len());
        (rest, passed) = (below, sample.end);
        let mut columns = rows.split_at_col_mut(column).1;
        for _ in 0..count {
            let (part, right) = columns.split_at_col_mut(width);
            parts.push(part);
            columns = right;
        }
    }
    parts
}

/// What a block of scores and its gradient is computed from: the rows of one sample and one query head.
#[derive(Clone, Copy)]
struct HeadRows<'a> {
    queries: MatRef<'a, f32>,
    keys: MatRef<'a, f32>,
    values: MatRef<'a, f32>,
    d_out: MatRef<'a, f32>,
}

impl<'a> HeadRows<'a> {
    fn new(heads: &Heads, sample: &Range<usize>, head: usize, qkv: &'a [f32], d_out: &'a [f32]) -> Self {
        let (width, kv_head) = (heads.head_dim, head / heads.group());
        let joint = |column: usize| rows_of(qkv, heads.qkv_width(), sample.clone(), column, width);
        HeadRows {
            queries: joint(head * width),
            keys: joint(heads.k_offset() + kv_head * width),
            values: joint(heads.v_offset() + kv_head * width),
            d_out: rows_of(d_out, heads.width(), sample.clone(), head * width, width),
        }
    }

    /// For the queries of `block` and all keys up to the last of them: the weights p and the scores' gradients
    /// `scale p (d_out·v - row_dot)`, both `[block, block.end]`. `log_sum` and `row_dot` are asked for by query.
    fn weights_and_gradients(
        &self,
        block: Range<usize>,
        scale: f32,
        log_sum: impl Fn(usize) -> f32,
        row_dot: impl Fn(usize) -> f32,
        weights: &mut Vec<f32>,
        gradients: &mut Vec<f32>,
    ) {
        let (rows, keys) = (block.len(), block.end);
        for scratch in [&mut *weights, &mut *gradients] {
            scratch.resize(rows * keys, 0.0);
        }
        let queries = self.queries.subrows(block.start, rows);
        let d_out = self.d_out.subrows(block.start, rows);
        let (keys_up_to, values_up_to) = (self.keys.subrows(0, keys), self.values.subrows(0, keys));
        product(view_mut(weights, rows, keys, keys), false, queries, keys_up_to.transpose(), false);
        product(view_mut(gradients, rows, keys, keys), false, d_out, values_up_to.transpose(), false);
        let lines = weights.chunks_exact_mut(keys).zip(gradients.chunks_exact_mut(keys));
        for (query, (weights, gradients)) in block.zip(lines) {
            let visible = query + 1;
            weights[visible..].fill(0.0);
            gradients[visible..].fill(0.0);
            let (weights, gradients) = (&mut weights[..visible], &mut gradients[..visible]);
            differentiate(weights, gradients, scale, log_sum(query), row_dot(query));
        }
    }
}

multiversioned! {
    /// Turns a row of products q·k into weights and a row of products d_out·v into the scores' gradients.
    fn differentiate(weights: &mut [f32], gradients: &mut [f32], scale: f32, log_sum: f32, row_dot: f32) {
        for (weight, gradient) in weights.iter_mut().zip(gradients) {
            *weight = exp(scale * *weight - log_sum);
            *gradient = *weight * (*gradient - row_dot) * scale;
        }
    }
}

multiversioned! {
    /// Turns a row of products q·k into weights that sum to one. Returns the logarithm of the exponentials' sum.
    fn softmax(row: &mut [f32], scale: f32) -> f32 {
        let mut largest = f32::NEG_INFINITY;
        for value in row.iter_mut() {
            *value *= scale;
            largest = if *value > largest { *value } else { largest };
        }
        for value in row.iter_mut() {
            *value = exp(*value - largest);
        }
        let sum = crate::kernels::lanes::sum(row);
        for value in row.iter_mut() {
            *value /= sum;
        }
        largest + sum.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_do_not_cross_samples() {
        let tiles = tiles(&[3, 4, 4, 40]);
        assert_eq!(tiles, [3, 1, 3, 4, 4, 16, 4, 40, 20, 16, 4, 40, 36, 4, 4, 40]);
        assert_eq!(samples(&tiles), [3..4, 4..40]);
    }

    #[test]
    fn cuts_lie_where_they_should() {
        let mut values: Vec<f32> = (0..60).map(|i| i as f32).collect();
        let parts = cut(&mut values, 10, &[1..2, 3..5], 2, 3, 2);
        let corners: Vec<f32> = parts.iter().map(|p| p[(0, 0)]).collect();
        assert_eq!(corners, [12.0, 15.0, 32.0, 35.0]);
        assert_eq!((parts[3].nrows(), parts[3].ncols(), parts[3][(1, 2)]), (2, 3, 47.0));
    }
}
