//! `y[t] = table[id_t]`, or `+=`, for tokens whose row lies in a slice of the table.

use rayon::prelude::*;

use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Matrix, Real, Window, flat_grid, index, launch};
use crate::{Element, Result};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "embedding/lookup", summary: "rows of a table by id" };

kernel_params! {
    /// The shader's parameters.
    Params = EMBEDDING_LOOKUP {
        /// Number of tokens.
        tokens: u32,
        /// The slice's first row.
        first_row: u32,
        /// Rows of the slice.
        rows: u32,
        /// Columns of the table.
        columns: u32,
        /// Elements from one row of y to the next.
        stride: u32,
        /// First column of y.
        offset: u32,
        /// 1: the row is added.
        accumulate: u32,
    }
}

/// Looks up `ids` in the rows from `first_row` on; rows of other tokens stay as they are.
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
    let params = Params {
        tokens: index(tokens)?,
        first_row: index(first_row)?,
        rows: index(table.rows)?,
        columns: index(table.columns)?,
        stride: index(y.stride)?,
        offset: index(y.offset)?,
        accumulate: u32::from(accumulate),
    };
    let variant = format!("ELEMENT={}", table.element.name());
    let grid = flat_grid(tokens * table.columns, 256);
    launch(device, KERNEL.name, &variant, &params, &[ids, table.buffer, y.buffer], grid, |buffers| {
        cpu(&params, table.element, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs.
pub fn cost(params: &Params, element: Element) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.columns);
    let stored = element.size() as u64 + 4 + 4 * u64::from(params.accumulate);
    Cost { bytes: count * stored, operations: count * u64::from(params.accumulate) }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, ids: &[u32], table: &[R], y: &mut [R]) {
    for token in 0..params.tokens {
        let row = ids[token as usize].wrapping_sub(params.first_row);
        if row >= params.rows {
            continue;
        }
        for column in 0..params.columns {
            let value = table[(row * params.columns + column) as usize];
            let place = (token * params.stride + params.offset + column) as usize;
            y[place] = if params.accumulate == 1 { y[place] + value } else { value };
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, element: Element, ids: &[u32], table: &[u8], y: &mut [f32]) {
    let (columns, offset) = (params.columns as usize, params.offset as usize);
    let rows = y.par_chunks_mut(params.stride as usize).zip(&ids[..params.tokens as usize]);
    rows.with_min_len(16).for_each_init(
        || vec![0.0; columns],
        |values, (y, id)| {
            let row = id.wrapping_sub(params.first_row);
            if row >= params.rows {
                return;
            }
            let bytes = columns * element.size();
            // The lengths match, which is all that decoding can object to.
            let _ = element.decode(&table[row as usize * bytes..][..bytes], values);
            for (y, value) in y[offset..offset + columns].iter_mut().zip(values.iter()) {
                *y = if params.accumulate == 1 { *y + value } else { *value };
            }
        },
    );
}
