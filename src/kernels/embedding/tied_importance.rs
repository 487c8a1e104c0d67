//! The embedding's part in the importance of a table that is also the head. The stored importance holds `acc(H)` of every
//! unit, H being the head's gradient; each entry (row, unit) adds `acc(H + E) - acc(H)`, with E the embedding's gradient in
//! that row: for squares `2 H E + E²`.

use rayon::prelude::*;

use super::{EntrySums, RowIndex, rows_of_slice};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Accumulate, Cost, Kernel, Real, Window, flat_grid, index, launch, simd};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel {
    name: "embedding/tied_importance",
    summary: "corrects a head's importance to that of a head tied to the embedding",
};

kernel_params! {
    /// The shader's parameters.
    Params = EMBEDDING_TIED_IMPORTANCE {
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

/// Adds the corrections of the indexed units to `importance` `[slice_rows, columns]`, in order. `delta` `[tokens, columns]`
/// is the gradient at the embedding's output, `head_rows` `[entries, columns]` what
/// [`head_rows`](super::head_rows::run) gathered from the head.
///
/// A square whose H and E cancel may come out below zero by a rounding error of H².
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    accumulate: Accumulate,
    row_index: &RowIndex,
    delta: Window<'_>,
    columns: usize,
    head_rows: &Buffer,
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
    let buffers = [rows, row_entries, entry_tokens, tokens, delta.buffer, head_rows, importance];
    launch(
        device,
        KERNEL.name,
        &variant,
        &params,
        &buffers,
        flat_grid(count, 256),
        cost(&params, row_index.token_count(), row_index.entries()),
        |buffers| {
            let [rows, row_entries, entry_tokens, tokens] = [1, 2, 3, 4].map(|binding| buffers.read(binding));
            let (delta, head_rows, mut importance) = (buffers.read(5), buffers.read(6), buffers.write(7));
            cpu(&params, accumulate, &rows, &row_entries, &entry_tokens, &tokens, &delta, &head_rows, &mut importance);
        },
    )
}

/// What one launch costs, for an index of `tokens` tokens and `entries` entries whose rows all lie in the slice.
pub fn cost(params: &Params, tokens: usize, entries: usize) -> Cost {
    let [distinct, columns] = [params.distinct, params.columns].map(u64::from);
    let [tokens, entries] = [tokens, entries].map(|n| n as u64);
    Cost { bytes: 4 * (tokens + entries + 2 * distinct) * columns, operations: (tokens + 4 * entries) * columns }
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
                let h = head_rows[entry * p.columns as usize + c as usize];
                f += match accumulate {
                    Accumulate::Square => e * (h + h + e),
                    Accumulate::Magnitude => (h + e).abs() - h.abs(),
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
    head_rows: &[f32],
    importance: &mut [f32],
) {
    let p = params;
    let [delta_stride, delta_offset, columns] = [p.delta_stride, p.delta_offset, p.columns].map(|n| n as usize);
    let sums = EntrySums { row_entries, entry_tokens, tokens, delta, delta_stride, delta_offset, columns };
    let touched = rows_of_slice(&rows[..p.distinct as usize], p.first_row, p.slice_rows, columns, importance);
    touched.into_par_iter().for_each(|(i, importance)| {
        simd::wide(|| {
            sums.each(i, |entry, first, sums| {
                let head = &head_rows[entry * columns + first..];
                for ((f, e), h) in importance[first..].iter_mut().zip(sums).zip(head) {
                    *f += match accumulate {
                        Accumulate::Square => e * (2.0 * h + e),
                        Accumulate::Magnitude => (h + e).abs() - h.abs(),
                        Accumulate::Sum => *e,
                    };
                }
            });
        });
    });
}
