//! Copies the keys and values of a joint buffer into a cache: row `slots[t]` of it receives token t's.

use super::Heads;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "attention/cache_append", summary: "copies keys and values into a cache for decoding" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_CACHE_APPEND {
        /// Rows of the joint buffer.
        tokens: u32,
        /// Elements of one token's keys.
        width: u32,
        /// Elements from one token of the joint buffer to the next.
        stride: u32,
        /// The joint buffer's first column of keys; the values follow them.
        k_offset: u32,
    }
}

/// Copies the keys and values of `qkv` `[tokens, heads.qkv_width()]` to the rows `slots` (`[tokens]` `u32`, all different) of
/// `keys` and `values` `[rows, kv_heads * head_dim]`.
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
    index(tokens * heads.qkv_width())?;
    let params = Params {
        tokens: index(tokens)?,
        width: index(heads.kv_width())?,
        stride: index(heads.qkv_width())?,
        k_offset: index(heads.k_offset())?,
    };
    let workgroups = flat_grid(tokens * heads.kv_width(), 256);
    launch(device, KERNEL.name, "", &params, &[qkv, slots, keys, values], workgroups, cost(&params), |buffers| {
        let (qkv, slots) = (buffers.read::<f32>(1), buffers.read(2));
        reference(&params, &qkv, &slots, &mut buffers.write::<f32>(3), &mut buffers.write::<f32>(4));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let [tokens, width] = [params.tokens, params.width].map(u64::from);
    Cost { bytes: 4 * tokens * (4 * width + 1), operations: 0 }
}

/// The shader's copies, plainly; also what the CPU device runs, since a few rows at a time are not worth more.
pub fn reference<R: Copy>(params: &Params, qkv: &[R], slots: &[u32], keys: &mut [R], values: &mut [R]) {
    let [tokens, width, stride, k_offset] =
        [params.tokens, params.width, params.stride, params.k_offset].map(|n| n as usize);
    for token in 0..tokens {
        let place = slots[token] as usize * width;
        let key = token * stride + k_offset;
        keys[place..][..width].copy_from_slice(&qkv[key..][..width]);
        values[place..][..width].copy_from_slice(&qkv[key + width..][..width]);
    }
}
