//! `y[t, c] = start + table[ids[t] - first_row, c]` for the tokens whose row lies in the given slice of the table.

use rayon::prelude::*;

use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Matrix, Real, Window, flat_grid, index, launch};
use crate::{Element, Result};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "embedding/lookup", summary: "rows of an embedding table by token id" };

kernel_params! {
    /// The shader's parameters.
    Params = EMBEDDING_LOOKUP {
        /// Rows of `y`.
        tokens: u32,
        /// The table's row that the slice begins with.
        first_row: u32,
        /// Rows of the slice.
        slice_rows: u32,
        /// Columns of the table and of `y`.
        columns: u32,
        /// Elements from one row of `y` to the next.
        y_stride: u32,
        /// First column of `y`.
        y_offset: u32,
        /// 0: the row replaces what is stored in `y`; 1: it is added to it.
        accumulate: u32,
    }
}

/// Writes to each row of `y` the row of the table that the token's id (`u32`) names, or adds it where `accumulate` is
/// set. `table` holds the rows from `first_row` on; rows of `y` whose id lies outside of it stay as they are.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: usize,
    ids: &Buffer,
    first_row: usize,
    table: Matrix<'_>,
    y: Window<'_>,
    accumulate: bool,
) -> Result<()> {
    let count = index(tokens.saturating_mul(table.columns))? as usize;
    let params = Params {
        tokens: index(tokens)?,
        first_row: index(first_row)?,
        slice_rows: index(table.rows)?,
        columns: index(table.columns)?,
        y_stride: index(y.stride)?,
        y_offset: index(y.offset)?,
        accumulate: u32::from(accumulate),
    };
    let variant = format!("ELEMENT={}", table.element.name());
    launch(
        device,
        KERNEL.name,
        &variant,
        &params,
        &[ids, table.buffer, y.buffer],
        flat_grid(count, 256),
        cost(&params, table.element),
        |buffers| {
            cpu(&params, table.element, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
        },
    )
}

/// What one launch costs, if all ids lie in the slice.
pub fn cost(params: &Params, element: Element) -> Cost {
    let [tokens, columns, accumulate] = [params.tokens, params.columns, params.accumulate].map(u64::from);
    Cost {
        bytes: tokens * (4 + columns * (4 * (1 + accumulate) + element.size() as u64)),
        operations: accumulate * tokens * columns,
    }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, ids: &[u32], table: &[R], y: &mut [R]) {
    let p = params;
    for t in 0..p.tokens {
        let row = ids[t as usize].wrapping_sub(p.first_row);
        if row >= p.slice_rows {
            continue;
        }
        for c in 0..p.columns {
            let element = table[(row * p.columns + c) as usize];
            let y = &mut y[(t * p.y_stride + p.y_offset + c) as usize];
            *y = if p.accumulate == 1 { *y + element } else { element };
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, element: Element, ids: &[u32], table: &[u8], y: &mut [f32]) {
    let [columns, stride, offset] = [params.columns, params.y_stride, params.y_offset].map(|n| n as usize);
    let bytes = columns * element.size();
    let rows = y.par_chunks_mut(stride).zip(&ids[..params.tokens as usize]).with_min_len(8);
    rows.for_each_init(
        || vec![0.0; columns],
        |values, (y, id)| {
            let row = id.wrapping_sub(params.first_row);
            if row >= params.slice_rows {
                return;
            }
            let y = &mut y[offset..offset + columns];
            let stored = &table[row as usize * bytes..][..bytes];
            // The lengths match by construction, which is all that decoding can object to.
            if params.accumulate == 1 {
                let _ = element.decode(stored, values);
                y.iter_mut().zip(values).for_each(|(y, value)| *y += *value);
            } else {
                let _ = element.decode(stored, y);
            }
        },
    );
}
