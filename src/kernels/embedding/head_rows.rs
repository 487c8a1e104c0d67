//! The head's part of a tied table's gradient in the rows of each unit's own tokens: `Σ_t delta[t, v] activation[t]` over the
//! unit's tokens, for every entry (row v, unit n). Only these rows are needed to make the cross term of (H + E)² exact.

use rayon::prelude::*;

use super::RowIndex;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, index as number, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "embedding/head_rows", summary: "a tied head's gradient in the rows of the unit's own tokens" };

kernel_params! {
    /// The shader's parameters.
    Params = EMBEDDING_HEAD_ROWS {
        /// The slice's first row.
        first_row: u32,
        /// Rows of the slice: columns of delta.
        slice_rows: u32,
        /// Columns of the table.
        columns: u32,
        /// Elements from one row of delta to the next.
        delta_stride: u32,
        /// First column of delta.
        delta_offset: u32,
        /// Elements from one row of the activation to the next.
        activation_stride: u32,
        /// First column of the activation.
        activation_offset: u32,
    }
}

/// Writes `head_rows` `[entries, columns]` where an entry's row lies in the slice; the others stay as they are.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    index: &RowIndex,
    first_row: usize,
    slice_rows: usize,
    delta: Window<'_>,
    activation: Window<'_>,
    columns: usize,
    head_rows: &Buffer,
) -> Result<()> {
    let params = Params {
        first_row: number(first_row)?,
        slice_rows: number(slice_rows)?,
        columns: number(columns)?,
        delta_stride: number(delta.stride)?,
        delta_offset: number(delta.offset)?,
        activation_stride: number(activation.stride)?,
        activation_offset: number(activation.offset)?,
    };
    let count = index.entries();
    let buffers = [&index.entries, delta.buffer, activation.buffer, head_rows];
    launch(device, KERNEL.name, "", &params, &buffers, [number(count)?, 1, 1], |buffers| {
        let entries = buffers.read(1);
        cpu(&params, &entries[..3 * count], &buffers.read(2), &buffers.read(3), &mut buffers.write(4));
    })
}

/// What one launch costs for entries whose units have `tokens` tokens altogether.
pub fn cost(params: &Params, entries: usize, tokens: usize) -> Cost {
    let columns = u64::from(params.columns);
    Cost { bytes: 4 * columns * (entries + tokens) as u64, operations: 2 * columns * tokens as u64 }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, entries: &[u32], delta: &[R], activation: &[R], head_rows: &mut [R]) {
    let columns = params.columns as usize;
    for (entry, words) in entries.chunks_exact(3).enumerate() {
        let row = words[0].wrapping_sub(params.first_row);
        if row >= params.slice_rows {
            continue;
        }
        for column in 0..columns {
            let mut sum = R::default();
            for t in words[1]..words[2] {
                let factor = delta[(t * params.delta_stride + params.delta_offset + row) as usize];
                sum += factor * activation[(t * params.activation_stride + params.activation_offset) as usize + column];
            }
            head_rows[entry * columns + column] = sum;
        }
    }
}

/// The fast form on the CPU: entries in parallel.
pub fn cpu(params: &Params, entries: &[u32], delta: &[f32], activation: &[f32], head_rows: &mut [f32]) {
    let columns = params.columns as usize;
    head_rows.par_chunks_mut(columns).zip(entries.par_chunks_exact(3)).with_min_len(4).for_each(|(head_row, words)| {
        let row = words[0].wrapping_sub(params.first_row);
        if row >= params.slice_rows {
            return;
        }
        head_row.fill(0.0);
        for t in words[1]..words[2] {
            let factor = delta[(t * params.delta_stride + params.delta_offset + row) as usize];
            let first = (t * params.activation_stride + params.activation_offset) as usize;
            for (sum, value) in head_row.iter_mut().zip(&activation[first..first + columns]) {
                *sum += factor * value;
            }
        }
    });
}
