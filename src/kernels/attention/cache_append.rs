//! Copies the keys and values of joint rows into their places in a cache, for decoding.

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};

use super::Heads;

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "attention/cache_append", summary: "keys and values into a cache" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_CACHE_APPEND {
        /// Number of tokens.
        tokens: u32,
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
        /// Width of a head.
        head_dim: u32,
    }
}

/// Copies each token's key and value to row `slots[token]` of `keys` and `values` `[rows, kv_heads · head_dim]`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    heads: Heads,
    tokens: usize,
    qkv: &Buffer,
    slots: &Buffer,
    keys: &Buffer,
    values: &Buffer,
) -> Result<()> {
    let params = Params {
        tokens: index(tokens)?,
        heads: index(heads.heads)?,
        kv_heads: index(heads.kv_heads)?,
        head_dim: index(heads.head_dim)?,
    };
    let grid = flat_grid(tokens * heads.kv_heads * heads.head_dim, 256);
    launch(device, KERNEL.name, "", &params, &[qkv, slots, keys, values], grid, |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3), &mut buffers.write(4));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let width = u64::from(params.kv_heads) * u64::from(params.head_dim);
    Cost { bytes: 16 * u64::from(params.tokens) * width, operations: 0 }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, qkv: &[R], slots: &[u32], keys: &mut [R], values: &mut [R]) {
    let width = (params.kv_heads * params.head_dim) as usize;
    let stride = ((params.heads + 2 * params.kv_heads) * params.head_dim) as usize;
    for token in 0..params.tokens as usize {
        let row = token * stride + (params.heads * params.head_dim) as usize;
        for column in 0..width {
            let place = slots[token] as usize * width + column;
            keys[place] = qkv[row + column];
            values[place] = qkv[row + width + column];
        }
    }
}

/// The fast form on the CPU: whole rows at a time.
pub fn cpu(params: &Params, qkv: &[f32], slots: &[u32], keys: &mut [f32], values: &mut [f32]) {
    let width = (params.kv_heads * params.head_dim) as usize;
    let stride = ((params.heads + 2 * params.kv_heads) * params.head_dim) as usize;
    for (row, slot) in qkv.chunks(stride).zip(slots).take(params.tokens as usize) {
        let (key, value) = row[stride - 2 * width..].split_at(width);
        let place = *slot as usize * width;
        keys[place..place + width].copy_from_slice(key);
        values[place..place + width].copy_from_slice(value);
    }
}
