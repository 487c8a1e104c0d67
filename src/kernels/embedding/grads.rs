//! The embedding gradient of one unit: `grads[ids[t] - first_row, c] += delta[t, c]` over the unit's tokens.

use std::ops::Range;

use rayon::prelude::*;

use super::rows_of_slice;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "embedding/grads", summary: "adds one unit's embedding gradient to stored values" };

kernel_params! {
    /// The shader's parameters.
    Params = EMBEDDING_GRADS {
        /// The unit's first token.
        begin: u32,
        /// One past its last token.
        end: u32,
        /// Columns of the table.
        columns: u32,
        /// The table's row that the slice begins with.
        first_row: u32,
        /// Rows of the slice.
        slice_rows: u32,
        /// Elements from one row of `delta` to the next.
        delta_stride: u32,
        /// First column of `delta`.
        delta_offset: u32,
    }
}

/// Adds the gradient of the unit `tokens` to `grads` `[slice_rows, columns]`. `delta` `[tokens, columns]` is the gradient at
/// the embedding's output, `ids` (`u32`) the rows of the whole batch's tokens.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: Range<usize>,
    ids: &Buffer,
    delta: Window<'_>,
    columns: usize,
    first_row: usize,
    slice_rows: usize,
    grads: &Buffer,
) -> Result<()> {
    const WG_SIZE: usize = 64;
    let params = Params {
        begin: index(tokens.start)?,
        end: index(tokens.end)?,
        columns: index(columns)?,
        first_row: index(first_row)?,
        slice_rows: index(slice_rows)?,
        delta_stride: index(delta.stride)?,
        delta_offset: index(delta.offset)?,
    };
    let workgroups = [columns.div_ceil(WG_SIZE) as u32, 1, 1];
    launch(device, KERNEL.name, "", &params, &[ids, delta.buffer, grads], workgroups, cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs, if all ids lie in the slice.
pub fn cost(params: &Params) -> Cost {
    let [tokens, columns] = [params.end - params.begin, params.columns].map(u64::from);
    Cost { bytes: 4 * tokens * (1 + 3 * columns), operations: tokens * columns }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, ids: &[u32], delta: &[R], grads: &mut [R]) {
    let p = params;
    for c in 0..p.columns {
        for t in p.begin..p.end {
            let row = ids[t as usize].wrapping_sub(p.first_row);
            if row < p.slice_rows {
                grads[(row * p.columns + c) as usize] += delta[(t * p.delta_stride + p.delta_offset + c) as usize];
            }
        }
    }
}

/// The fast form on the CPU: tasks own rows, and take their tokens in order.
pub fn cpu(params: &Params, ids: &[u32], delta: &[f32], grads: &mut [f32]) {
    let p = params;
    let mut places: Vec<(u32, usize)> = (p.begin as usize..p.end as usize).map(|t| (ids[t], t)).collect();
    places.sort_unstable();
    let rows: Vec<&[(u32, usize)]> = places.chunk_by(|a, b| a.0 == b.0).collect();
    let ids: Vec<u32> = rows.iter().map(|row| row[0].0).collect();
    let touched = rows_of_slice(&ids, p.first_row, p.slice_rows, p.columns as usize, grads);
    touched.into_par_iter().with_min_len(4).for_each(|(i, grads)| {
        for (_, t) in rows[i] {
            let delta = &delta[t * p.delta_stride as usize + p.delta_offset as usize..];
            grads.iter_mut().zip(delta).for_each(|(g, delta)| *g += delta);
        }
    });
}
