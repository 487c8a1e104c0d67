//! Importance of a table: the gradient of unit n in row v is `E = Σ delta[t]` over the unit's tokens with the id v, and the
//! importance accumulates the units in order.

use rayon::prelude::*;

use super::RowIndex;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Accumulate, Cost, Kernel, Real, Window, index as number, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "embedding/importance", summary: "per-sample gradients of a table, accumulated" };

kernel_params! {
    /// The shader's parameters.
    Params = EMBEDDING_IMPORTANCE {
        /// The slice's first row.
        first_row: u32,
        /// Rows of the slice.
        slice_rows: u32,
        /// Columns of the table.
        columns: u32,
        /// Elements from one row of delta to the next.
        stride: u32,
        /// First column of delta.
        offset: u32,
    }
}

/// Adds the units' gradients to `importance` `[slice_rows, columns]`, the rows from `first_row` on.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    accumulate: Accumulate,
    index: &RowIndex,
    delta: Window<'_>,
    columns: usize,
    first_row: usize,
    slice_rows: usize,
    importance: &Buffer,
) -> Result<()> {
    let params = Params {
        first_row: number(first_row)?,
        slice_rows: number(slice_rows)?,
        columns: number(columns)?,
        stride: number(delta.stride)?,
        offset: number(delta.offset)?,
    };
    let variant = format!("ACCUMULATE={}", accumulate.name());
    let RowIndex { rows, row_entries, entry_tokens, tokens, .. } = index;
    let buffers = [rows, row_entries, entry_tokens, tokens, delta.buffer, importance];
    launch(device, KERNEL.name, &variant, &params, &buffers, [number(index.rows())?, 1, 1], |buffers| {
        let (rows, row_entries) = (buffers.read(1), buffers.read(2));
        let (entry_tokens, tokens, delta) = (buffers.read(3), buffers.read(4), buffers.read(5));
        let importance = &mut buffers.write(6);
        let rows = &rows[..index.rows()];
        cpu(&params, accumulate, rows, &row_entries, &entry_tokens, &tokens, &delta, importance);
    })
}

/// What one launch costs for `tokens` tokens with `rows` distinct ids in the slice.
pub fn cost(params: &Params, tokens: usize, rows: usize) -> Cost {
    let columns = u64::from(params.columns);
    Cost { bytes: 4 * columns * (tokens as u64 + 2 * rows as u64), operations: 3 * columns * tokens as u64 }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(
    params: &Params,
    accumulate: Accumulate,
    rows: &[u32],
    row_entries: &[u32],
    entry_tokens: &[u32],
    tokens: &[u32],
    delta: &[R],
    importance: &mut [R],
) {
    let columns = params.columns as usize;
    for (n, id) in rows.iter().enumerate() {
        let row = id.wrapping_sub(params.first_row);
        if row >= params.slice_rows {
            continue;
        }
        for column in 0..columns {
            let place = row as usize * columns + column;
            for entry in row_entries[n] as usize..row_entries[n + 1] as usize {
                let mut gradient = R::default();
                for i in entry_tokens[entry]..entry_tokens[entry + 1] {
                    gradient += delta[(tokens[i as usize] * params.stride + params.offset) as usize + column];
                }
                importance[place] = accumulate.fold(importance[place], gradient);
            }
        }
    }
}

/// The fast form on the CPU: rows in parallel.
pub fn cpu(
    params: &Params,
    accumulate: Accumulate,
    rows: &[u32],
    row_entries: &[u32],
    entry_tokens: &[u32],
    tokens: &[u32],
    delta: &[f32],
    importance: &mut [f32],
) {
    let columns = params.columns as usize;
    importance.par_chunks_mut(columns).take(params.slice_rows as usize).enumerate().with_min_len(64).for_each_init(
        || vec![0.0; columns],
        |gradient, (row, importance)| {
            let Ok(n) = rows.binary_search(&(row as u32 + params.first_row)) else { return };
            for entry in row_entries[n] as usize..row_entries[n + 1] as usize {
                gradient.fill(0.0);
                for i in entry_tokens[entry]..entry_tokens[entry + 1] {
                    let first = (tokens[i as usize] * params.stride + params.offset) as usize;
                    for (gradient, delta) in gradient.iter_mut().zip(&delta[first..first + columns]) {
                        *gradient += delta;
                    }
                }
                for (importance, gradient) in importance.iter_mut().zip(gradient.iter()) {
                    *importance = accumulate.fold(*importance, *gradient);
                }
            }
        },
    );
}
