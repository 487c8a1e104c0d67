//! Importance of a table that is also the head. The head's part H of every unit has been accumulated for the whole table;
//! with the embedding's part E in the unit's own rows the gradient is H + E, so each entry adds what E changes: for squares
//! `(H+E)² − H² = E (2H + E)`.

use rayon::prelude::*;

use super::RowIndex;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Accumulate, Cost, Kernel, Real, Window, index as number, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "embedding/tied_importance", summary: "what a tied embedding adds to the importance of the head" };

kernel_params! {
    /// The shader's parameters.
    Params = EMBEDDING_TIED_IMPORTANCE {
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
    head_rows: &Buffer,
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
    let buffers = [rows, row_entries, entry_tokens, tokens, delta.buffer, head_rows, importance];
    launch(device, KERNEL.name, &variant, &params, &buffers, [number(index.rows())?, 1, 1], |buffers| {
        let (rows, row_entries) = (buffers.read(1), buffers.read(2));
        let (entry_tokens, tokens, delta) = (buffers.read(3), buffers.read(4), buffers.read(5));
        let importance = &mut buffers.write(7);
        let rows = &rows[..index.rows()];
        cpu(&params, accumulate, rows, &row_entries, &entry_tokens, &tokens, &delta, &buffers.read(6), importance);
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
    head_rows: &[R],
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
                importance[place] =
                    importance[place] + accumulate.correction(head_rows[entry * columns + column], gradient);
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
    head_rows: &[f32],
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
                for (column, (importance, gradient)) in importance.iter_mut().zip(gradient.iter()).enumerate() {
                    *importance += accumulate.correction(head_rows[entry * columns + column], *gradient);
                }
            }
        },
    );
}
