//! Kernels of causal attention with grouped heads, and of its rotary embedding. Scores exist a block at a time: no kernel
//! holds a `[tokens, tokens]` matrix, and none needs atomics, because whoever sums a result owns it.

pub mod cache_append;
pub mod decode;
pub mod forward;
pub mod key_value_grad;
pub mod query_grad;
pub mod rotary;

use crate::device::Buffer;
use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[
    cache_append::KERNEL,
    decode::KERNEL,
    forward::KERNEL,
    key_value_grad::KERNEL,
    query_grad::KERNEL,
    rotary::KERNEL,
];

/// Tokens of one tile.
pub const TILE: usize = 16;

/// Shape of the heads. A joint row is `[queries | keys | values]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head h uses number `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl Heads {
    /// Width of a joint row.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Width of all query heads together.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The first column of the keys in a joint row.
    pub fn k_offset(&self) -> usize {
        self.width()
    }

    /// The first column of the values in a joint row.
    pub fn v_offset(&self) -> usize {
        self.width() + self.kv_heads * self.head_dim
    }
}

/// Tiles of at most [`TILE`] consecutive tokens of one sample: `[count, 4]` words, the first token, the number of tokens,
/// the sample's first token and its end.
#[derive(Clone, Copy, Debug)]
pub struct Tiles<'a> {
    /// The words.
    pub buffer: &'a Buffer,
    /// Number of tiles.
    pub count: usize,
}

/// The tiles of samples that lie at `sample_offsets[i] .. sample_offsets[i + 1]`.
pub fn tiles(sample_offsets: &[u32]) -> Vec<u32> {
    let mut words = Vec::new();
    for ends in sample_offsets.windows(2) {
        for first in (ends[0]..ends[1]).step_by(TILE) {
            words.extend([first, (ends[1] - first).min(TILE as u32), ends[0], ends[1]]);
        }
    }
    words
}

/// First token and end of the sample of every token.
fn spans(tiles: &[u32], tokens: usize) -> Vec<(usize, usize)> {
    let mut spans = vec![(0, 0); tokens];
    for tile in tiles.chunks_exact(4) {
        for token in tile[0]..tile[0] + tile[1] {
            spans[token as usize] = (tile[2] as usize, tile[3] as usize);
        }
    }
    spans
}

/// The dot product, in 16 interleaved sums so that it vectorises.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (a_blocks, a_rest) = a.as_chunks::<16>();
    let (b_blocks, b_rest) = b.as_chunks::<16>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// `y += factor · x`.
fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}
