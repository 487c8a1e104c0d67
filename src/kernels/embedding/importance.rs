//! The importance of an embedding table that is not tied to the head: for each row that occurs in the batch,
//! `f = accumulate over units n of E_n`, `E_n[c] = Σ delta[t, c]` over the unit's tokens that are this row.

use rayon::prelude::*;

use super::{EntrySums, RowIndex, rows_of_slice};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Accumulate, Cost, Kernel, Real, Window, flat_grid, index, launch, simd};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "embedding/importance", summary: "importance of an embedding table from its per-unit gradients" };

kernel_params! {
    /// The shader's parameters.
    Params = EMBEDDING_IMPORTANCE {
        /// Distinct rows in the batch.
        distinct: u32,
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

/// Accumulates the embedding gradients of the indexed units into `importance` `[slice_rows, columns]`, in order, from the
/// stored values on. `delta` `[tokens, columns]` is the gradient at the embedding's output.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    accumulate: Accumulate,
    row_index: &RowIndex,
    delta: Window<'_>,
    columns: usize,
    first_row: usize,
    slice_rows: usize,
    importance: &Buffer,
) -> Result<()> {
    let count = index(row_index.rows().saturating_mul(columns))? as usize;
    let params = Params {
        distinct: index(row_index.rows())?,
        columns: index(columns)?,
        first_row: index(first_row)?,
        slice_rows: index(slice_rows)?,
        delta_stride: index(delta.stride)?,
        delta_offset: index(delta.offset)?,
    };
    let variant = format!("ACCUMULATE={}", accumulate.name());
    let RowIndex { rows, row_entries, entry_tokens, tokens, .. } = row_index;
    let buffers = [rows, row_entries, entry_tokens, tokens, delta.buffer, importance];
    launch(
        device,
        KERNEL.name,
        &variant,
        &params,
        &buffers,
        flat_grid(count, 256),
        cost(&params, row_index.token_count()),
        |buffers| {
            let [rows, row_entries, entry_tokens, tokens] = [1, 2, 3, 4].map(|binding| buffers.read(binding));
            let (delta, mut importance) = (buffers.read(5), buffers.write(6));
            cpu(&params, accumulate, &rows, &row_entries, &entry_tokens, &tokens, &delta, &mut importance);
        },
    )
}

/// What one launch costs, for an index of `tokens` tokens whose rows all lie in the slice.
pub fn cost(params: &Params, tokens: usize) -> Cost {
    let [distinct, columns, tokens] = [params.distinct.into(), params.columns.into(), tokens as u64];
    Cost { bytes: 4 * (tokens + 2 * distinct) * columns, operations: 3 * tokens * columns }
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
    let p = params;
    for i in 0..p.distinct as usize {
        let row = rows[i].wrapping_sub(p.first_row);
        if row >= p.slice_rows {
            continue;
        }
        for c in 0..p.columns {
            let mut f = importance[(row * p.columns + c) as usize];
            for entry in row_entries[i] as usize..row_entries[i + 1] as usize {
                let mut e = R::default();
                for j in entry_tokens[entry] as usize..entry_tokens[entry + 1] as usize {
                    e += delta[(tokens[j] * p.delta_stride + p.delta_offset + c) as usize];
                }
                f += match accumulate {
                    Accumulate::Square => e * e,
                    Accumulate::Magnitude => e.abs(),
                    Accumulate::Sum => e,
                };
            }
            importance[(row * p.columns + c) as usize] = f;
        }
    }
}

/// The fast form on the CPU.
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
    let p = params;
    let [delta_stride, delta_offset, columns] = [p.delta_stride, p.delta_offset, p.columns].map(|n| n as usize);
    let sums = EntrySums { row_entries, entry_tokens, tokens, delta, delta_stride, delta_offset, columns };
    let touched = rows_of_slice(&rows[..p.distinct as usize], p.first_row, p.slice_rows, columns, importance);
    touched.into_par_iter().for_each(|(i, importance)| {
        simd::wide(|| {
            sums.each(i, |_, first, sums| {
                for (f, e) in importance[first..].iter_mut().zip(sums) {
                    *f += match accumulate {
                        Accumulate::Square => e * e,
                        Accumulate::Magnitude => e.abs(),
                        Accumulate::Sum => *e,
                    };
                }
            });
        });
    });
}
