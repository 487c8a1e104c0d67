//! Rotary embedding (Su et al. 2021) in place, in Hugging Face's order: the pair `(i, i + head_dim/2)` of each head turns by
//! its position's angle, or back.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "attention/rotary", summary: "rotary embedding, and its inverse" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_ROTARY {
        /// Tokens times heads times half the width of a head.
        pairs: u32,
        /// Heads that are turned.
        heads: u32,
        /// Half the width of a head.
        half_dim: u32,
        /// Elements from one token to the next.
        stride: u32,
        /// First column.
        offset: u32,
        /// 1: turn back.
        inverse: u32,
    }
}

/// Turns `heads` heads of `x` by the angles of `table` `[positions, head_dim / 2, 2]` (cosine, sine).
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: usize,
    heads: usize,
    head_dim: usize,
    table: &Buffer,
    positions: &Buffer,
    x: Window<'_>,
    inverse: bool,
) -> Result<()> {
    let pairs = tokens * heads * (head_dim / 2);
    let params = Params {
        pairs: index(pairs)?,
        heads: index(heads)?,
        half_dim: index(head_dim / 2)?,
        stride: index(x.stride)?,
        offset: index(x.offset)?,
        inverse: u32::from(inverse),
    };
    launch(device, KERNEL.name, "", &params, &[table, positions, x.buffer], flat_grid(pairs, 256), |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let pairs = u64::from(params.pairs);
    Cost { bytes: 4 * 6 * pairs, operations: 6 * pairs }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, table: &[R], positions: &[u32], x: &mut [R]) {
    for n in 0..params.pairs {
        let pair = n % params.half_dim;
        let head = n / params.half_dim % params.heads;
        let token = n / params.half_dim / params.heads;
        let angle = ((positions[token as usize] * params.half_dim + pair) * 2) as usize;
        let sine = if params.inverse == 1 { -table[angle + 1] } else { table[angle + 1] };
        let first = (token * params.stride + params.offset + head * 2 * params.half_dim + pair) as usize;
        let second = first + params.half_dim as usize;
        let (a, b) = (x[first], x[second]);
        x[first] = a * table[angle] - b * sine;
        x[second] = b * table[angle] + a * sine;
    }
}

/// The fast form on the CPU: tokens in parallel.
pub fn cpu(params: &Params, table: &[f32], positions: &[u32], x: &mut [f32]) {
    let (half, heads) = (params.half_dim as usize, params.heads as usize);
    let tokens = params.pairs as usize / half / heads;
    let sign = if params.inverse == 1 { -1.0 } else { 1.0 };
    x.par_chunks_mut(params.stride as usize).zip(positions).take(tokens).with_min_len(16).for_each(
        |(row, position)| {
            let angles = &table[*position as usize * half * 2..][..half * 2];
            for head in row[params.offset as usize..][..heads * half * 2].chunks_exact_mut(2 * half) {
                let (first, second) = head.split_at_mut(half);
                for ((a, b), angle) in first.iter_mut().zip(second).zip(angles.chunks_exact(2)) {
                    let (cosine, sine) = (angle[0], angle[1] * sign);
                    (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
                }
            }
        },
    );
}
