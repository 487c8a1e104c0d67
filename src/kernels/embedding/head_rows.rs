//! The head's gradient in the rows of each unit's own tokens, kept for the embedding that is tied to it: for entry (row v,
//! unit), `head_rows[entry, c] = Σ delta[t, v] activation[t, c]` over the unit's tokens.

use rayon::prelude::*;

use super::RowIndex;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, flat_grid, index, launch, simd};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "embedding/head_rows", summary: "the head's gradient in the rows of each unit's own tokens" };

kernel_params! {
    /// The shader's parameters.
    Params = EMBEDDING_HEAD_ROWS {
        /// Entries of the index.
        entries: u32,
        /// Columns of the head.
        columns: u32,
        /// The head's row that the slice begins with.
        first_row: u32,
        /// Rows of the slice.
        slice_rows: u32,
        /// Elements from one row of `delta` to the next.
        delta_stride: u32,
        /// First column of `delta`.
        delta_offset: u32,
        /// Elements from one row of `activation` to the next.
        activation_stride: u32,
        /// First column of `activation`.
        activation_offset: u32,
    }
}

/// Fills the rows of `head_rows` `[entries, columns]` whose entries lie in the slice; the others stay as they are. `delta`
/// `[tokens, slice_rows]` is the gradient at this slice's logits, `activation` `[tokens, columns]` the head's input.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    row_index: &RowIndex,
    first_row: usize,
    slice_rows: usize,
    delta: Window<'_>,
    activation: Window<'_>,
    columns: usize,
    head_rows: &Buffer,
) -> Result<()> {
    let count = index(row_index.entries().saturating_mul(columns))? as usize;
    let params = Params {
        entries: index(row_index.entries())?,
        columns: index(columns)?,
        first_row: index(first_row)?,
        slice_rows: index(slice_rows)?,
        delta_stride: index(delta.stride)?,
        delta_offset: index(delta.offset)?,
        activation_stride: index(activation.stride)?,
        activation_offset: index(activation.offset)?,
    };
    let RowIndex { entry_row, entry_segment_start, entry_segment_end, .. } = row_index;
    let buffers = [entry_row, entry_segment_start, entry_segment_end, delta.buffer, activation.buffer, head_rows];
    launch(
        device,
        KERNEL.name,
        "",
        &params,
        &buffers,
        flat_grid(count, 256),
        cost(&params, row_index.unit_tokens()),
        |buffers| {
            let [rows, starts, ends] = [1, 2, 3].map(|binding| buffers.read(binding));
            let (delta, activation) = (buffers.read(4), buffers.read(5));
            cpu(&params, &rows, &starts, &ends, &delta, &activation, &mut buffers.write(6));
        },
    )
}

/// What one launch costs if all entries lie in the slice and their units have `tokens` tokens together, a unit's counted
/// for each of its entries.
pub fn cost(params: &Params, tokens: usize) -> Cost {
    let [entries, columns, tokens] = [params.entries.into(), params.columns.into(), tokens as u64];
    Cost { bytes: 4 * (tokens * (columns + 1) + entries * columns), operations: 2 * tokens * columns }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(
    params: &Params,
    entry_row: &[u32],
    entry_segment_start: &[u32],
    entry_segment_end: &[u32],
    delta: &[R],
    activation: &[R],
    head_rows: &mut [R],
) {
    let p = params;
    for entry in 0..p.entries as usize {
        let row = entry_row[entry].wrapping_sub(p.first_row);
        if row >= p.slice_rows {
            continue;
        }
        for c in 0..p.columns {
            let mut sum = R::default();
            for t in entry_segment_start[entry]..entry_segment_end[entry] {
                sum += delta[(t * p.delta_stride + p.delta_offset + row) as usize]
                    * activation[(t * p.activation_stride + p.activation_offset + c) as usize];
            }
            head_rows[entry * p.columns as usize + c as usize] = sum;
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(
    params: &Params,
    entry_row: &[u32],
    entry_segment_start: &[u32],
    entry_segment_end: &[u32],
    delta: &[f32],
    activation: &[f32],
    head_rows: &mut [f32],
) {
    // Columns whose sums stay in registers while the tokens pass.
    const PIECE: usize = 64;
    let p = params;
    let columns = p.columns as usize;
    let entries = head_rows.par_chunks_mut(columns).take(p.entries as usize).enumerate();
    entries.for_each(|(entry, head)| {
        let row = entry_row[entry].wrapping_sub(p.first_row);
        if row >= p.slice_rows {
            return;
        }
        let unit = entry_segment_start[entry] as usize..entry_segment_end[entry] as usize;
        let delta = &delta[p.delta_offset as usize + row as usize..];
        let activation = &activation[p.activation_offset as usize..];
        simd::wide(|| {
            for (i, head) in head.chunks_mut(PIECE).enumerate() {
                let mut sums = [0.0; PIECE];
                let sums = &mut sums[..head.len()];
                for t in unit.clone() {
                    let d = delta[t * p.delta_stride as usize];
                    let row = &activation[t * p.activation_stride as usize + i * PIECE..];
                    for (sum, a) in sums.iter_mut().zip(row) {
                        *sum += d * a;
                    }
                }
                head.copy_from_slice(sums);
            }
        });
    });
}
