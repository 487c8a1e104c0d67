//! Rotary embedding (Su et al. 2021) in place: the pair `(a, b)` of columns `(i, i + head_dim / 2)` of each head becomes
//! `(a cos - b sin, b cos + a sin)`.

use rayon::prelude::*;

use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, flat_grid, index, launch};
use crate::{Error, Result};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "attention/rotary", summary: "rotary embedding of queries or keys, or its inverse" };

kernel_params! {
    /// The shader's parameters.
    Params = ATTENTION_ROTARY {
        /// Rows of X.
        tokens: u32,
        /// Heads of a row.
        heads: u32,
        /// Columns of a head.
        head_dim: u32,
        /// Elements from one row of X to the next.
        x_stride: u32,
        /// First column of X.
        x_offset: u32,
        /// 0: turn; 1: turn back.
        inverse: u32,
    }
}

/// Turns the heads of `x` by the angles of `table` `[positions, head_dim / 2, 2]` (cos, sin) for each token's position
/// (`positions`: `[tokens]` `u32`), or back by them where `inverse` is set, which is the gradient's way.
///
/// # Errors
/// When `head_dim` is odd, a buffer is too small or the device failed.
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
    if !head_dim.is_multiple_of(2) {
        return Err(Error::argument(format!("a rotary embedding needs pairs of columns: head_dim {head_dim} is odd")));
    }
    let params = Params {
        tokens: index(tokens)?,
        heads: index(heads)?,
        head_dim: index(head_dim)?,
        x_stride: index(x.stride)?,
        x_offset: index(x.offset)?,
        inverse: u32::from(inverse),
    };
    let workgroups = flat_grid(tokens * heads * (head_dim / 2), 256);
    launch(device, KERNEL.name, "", &params, &[table, positions, x.buffer], workgroups, cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs; a row of the table is counted once for each token.
pub fn cost(params: &Params) -> Cost {
    let [tokens, heads, head_dim] = [params.tokens, params.heads, params.head_dim].map(u64::from);
    Cost { bytes: 4 * tokens * (2 * heads * head_dim + head_dim + 1), operations: 3 * tokens * heads * head_dim }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, table: &[R], positions: &[u32], x: &mut [R]) {
    let p = params;
    let pairs = p.head_dim / 2;
    for n in 0..p.tokens * p.heads * pairs {
        let (pair, head, token) = (n % pairs, n / pairs % p.heads, n / pairs / p.heads);
        let angle = ((positions[token as usize] * pairs + pair) * 2) as usize;
        let (cosine, sine) = (table[angle], table[angle + 1]);
        let sine = if p.inverse == 1 { -sine } else { sine };
        let first = (token * p.x_stride + p.x_offset + head * p.head_dim + pair) as usize;
        let second = first + pairs as usize;
        let (a, b) = (x[first], x[second]);
        x[first] = a * cosine - b * sine;
        x[second] = b * cosine + a * sine;
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, table: &[f32], positions: &[u32], x: &mut [f32]) {
    let [tokens, heads, head_dim] = [params.tokens, params.heads, params.head_dim].map(|n| n as usize);
    let sign = if params.inverse == 1 { -1.0 } else { 1.0 };
    x.par_chunks_mut(params.x_stride as usize).zip(positions).take(tokens).for_each(|(x, position)| {
        let (angles, _) = table[*position as usize * head_dim..][..head_dim].as_chunks::<2>();
        for head in x[params.x_offset as usize..][..heads * head_dim].chunks_exact_mut(head_dim) {
            let (first, second) = head.split_at_mut(head_dim / 2);
            for ((a, b), [cosine, sine]) in first.iter_mut().zip(second).zip(angles) {
                let sine = sign * sine;
                (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
            }
        }
    });
}
