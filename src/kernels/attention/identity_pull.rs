//! Pulls heads' attention maps A towards the identity, in place: A' = (1 − u) A + u I, of which the output is
//! `(1 − u) A V + u V` (the soft knob of HeadHunter, NeurIPS 2025). Every variant has a knob u for each head; samples are
//! numbered variant by variant, so that a pass tries many variants at once.

use rayon::prelude::*;

use super::Heads;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch};
use crate::{Error, Result};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "attention/identity_pull", summary: "pulls heads' attention maps towards the identity" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_IDENTITY_PULL {
        /// Rows of the joint buffer.
        tokens: u32,
        /// Query heads.
        heads: u32,
        /// Columns of a head.
        head_dim: u32,
        /// Query heads that share one head of values.
        group: u32,
        /// Elements from one token of the joint buffer to the next.
        stride: u32,
        /// The joint buffer's first column of values.
        v_offset: u32,
        /// Samples of a variant.
        samples: u32,
    }
}

/// Pulls the heads of `mixed` `[tokens, heads.width()]`, the outputs A V, by the `knobs` `[variants, heads]` of the variant
/// that each token's sample belongs to: its number (`keys`: `[tokens, 2]` `u32`, number and position) divided by `samples`.
/// The values are those of `qkv` `[tokens, heads.qkv_width()]`. A head with the knob 0 keeps its bits.
///
/// # Errors
/// When a variant has no samples, a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    heads: Heads,
    tokens: usize,
    samples: usize,
    (knobs, keys): (&Buffer, &Buffer),
    qkv: &Buffer,
    mixed: &Buffer,
) -> Result<()> {
    let [heads_, _, head_dim] = heads.checked()?;
    if samples == 0 {
        return Err(Error::argument("a variant has at least one sample"));
    }
    index(tokens.saturating_mul(heads.qkv_width()))?;
    let params = Params {
        tokens: index(tokens)?,
        heads: heads_,
        head_dim,
        group: index(heads.group())?,
        stride: index(heads.qkv_width())?,
        v_offset: index(heads.v_offset())?,
        samples: index(samples)?,
    };
    let workgroups = flat_grid(tokens * heads.width(), 256);
    let buffers = [knobs, keys, qkv, mixed];
    launch(device, KERNEL.name, "", &params, &buffers, workgroups, cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &buffers.read(3), &mut buffers.write(4));
    })
}

/// What one launch costs where every head is pulled.
pub fn cost(params: &Params) -> Cost {
    let [tokens, width] = [params.tokens, params.heads * params.head_dim].map(u64::from);
    Cost { bytes: 4 * tokens * (3 * width + 2), operations: 3 * tokens * width }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, knobs: &[R], keys: &[u32], qkv: &[R], mixed: &mut [R]) {
    let p = params;
    let width = p.heads * p.head_dim;
    for i in 0..p.tokens * width {
        let token = i / width;
        let head = i % width / p.head_dim;
        let knob = knobs[(keys[2 * token as usize] / p.samples * p.heads + head) as usize];
        if knob != R::default() {
            let column = head / p.group * p.head_dim + i % p.head_dim;
            let value = qkv[(token * p.stride + p.v_offset + column) as usize];
            mixed[i as usize] = (R::real(1.0) - knob) * mixed[i as usize] + knob * value;
        }
    }
}

/// The fast form on the CPU: tokens in parallel, heads that are not pulled are passed over.
pub fn cpu(params: &Params, knobs: &[f32], keys: &[u32], qkv: &[f32], mixed: &mut [f32]) {
    let [tokens, heads, head_dim, group, stride, v_offset, samples] =
        [params.tokens, params.heads, params.head_dim, params.group, params.stride, params.v_offset, params.samples]
            .map(|n| n as usize);
    let rows = mixed.par_chunks_mut(heads * head_dim).zip(qkv.par_chunks(stride)).zip(keys.par_chunks(2));
    rows.take(tokens).with_min_len(16).for_each(|((mixed, qkv), key)| {
        let knobs = &knobs[key[0] as usize / samples * heads..][..heads];
        for (head, knob) in knobs.iter().enumerate().filter(|(_, knob)| **knob != 0.0) {
            let values = &qkv[v_offset + head / group * head_dim..][..head_dim];
            for (mixed, value) in mixed[head * head_dim..][..head_dim].iter_mut().zip(values) {
                *mixed = (1.0 - knob) * *mixed + knob * value;
            }
        }
    });
}
