//! `Y = X W` in mixed precision: `linear/matmul_nn` with factors rounded to half precision. See `kernels::precision` for how they
//! are scaled.

use rayon::prelude::*;

use super::{edges, matmul_nn, row_exponents};
use crate::device::Device;
use crate::kernels::operands::decoded;
use crate::kernels::precision::{Unit, half, power, round_scaled};
use crate::kernels::shader::kernel_params;
use crate::kernels::tile::DEPTH;
use crate::kernels::{Cost, Kernel, Matrix, Real, Window, index, launch};
use crate::{Element, Result};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "linear/mixed_nn", summary: "Y = X W with factors in half and sums in single precision" };

kernel_params! {
    /// The shader's parameters.
    Params = LINEAR_MIXED_NN {
        /// Rows of X and Y.
        tokens: u32,
        /// Rows of W: columns of X.
        rows: u32,
        /// Columns of W: columns of Y.
        columns: u32,
        /// Elements from one row of X to the next.
        x_stride: u32,
        /// First column of X.
        x_offset: u32,
        /// Elements from one row of Y to the next.
        y_stride: u32,
        /// First column of Y.
        y_offset: u32,
        /// 0: the product alone; 1: added to the value stored in Y.
        accumulate: u32,
    }
}

/// By which power of two weights are multiplied before they are rounded: up to 255 they stay in range.
const WEIGHT_EXPONENT: i32 = 8;

/// The parameters of a product.
///
/// # Errors
/// When a size exceeds a shader's indices.
pub fn params(tokens: usize, x: Window<'_>, w: Matrix<'_>, y: Window<'_>, accumulate: bool) -> Result<Params> {
    Ok(Params {
        tokens: index(tokens)?,
        rows: index(w.rows)?,
        columns: index(w.columns)?,
        x_stride: index(x.stride)?,
        x_offset: index(x.offset)?,
        y_stride: index(y.stride)?,
        y_offset: index(y.offset)?,
        accumulate: u32::from(accumulate),
    })
}

/// Computes `y = x w` for `tokens` rows on `unit`, or adds to `y` where `accumulate` is set.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    unit: Unit,
    tokens: usize,
    x: Window<'_>,
    w: Matrix<'_>,
    y: Window<'_>,
    accumulate: bool,
) -> Result<()> {
    let params = params(tokens, x, w, y, accumulate)?;
    let exponents = row_exponents::leased(device, tokens, w.rows, x)?;
    let tile = unit.tile();
    let whole = w.rows.is_multiple_of(DEPTH) && w.columns.is_multiple_of(tile.columns);
    let variant = format!("ELEMENT={},UNIT={},EDGES={}", w.element.name(), unit.name(), edges(whole, &[x, y]));
    launch(
        device,
        KERNEL.name,
        &variant,
        &params,
        &[x.buffer, w.buffer, y.buffer, &exponents],
        tile.grid(tokens, w.columns),
        cost(&params, w.element),
        |buffers| {
            let (x, weights, exponents) = (buffers.read(1), buffers.read(2), buffers.read(4));
            cpu(&params, w.element, &x, &weights, &mut buffers.write(3), &exponents);
        },
    )
}

/// What one launch costs.
pub fn cost(params: &Params, element: Element) -> Cost {
    let [tokens, rows, columns] = [params.tokens, params.rows, params.columns].map(u64::from);
    let starts = u64::from(params.accumulate) * tokens * columns;
    Cost {
        bytes: 4 * (tokens * (rows + columns + 1) + starts) + rows * columns * element.size() as u64,
        operations: 2 * tokens * rows * columns,
    }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], w: &[R], y: &mut [R], exponents: &[i32]) {
    let p = params;
    let scale = |exponent: i32| R::real(f64::from(power(exponent)));
    for t in 0..p.tokens {
        let exponent = exponents[t as usize];
        for c in 0..p.columns {
            let mut sum = R::default();
            for r in 0..p.rows {
                let x = x[(t * p.x_stride + p.x_offset + r) as usize];
                sum += half(x * scale(exponent)) * half(w[(r * p.columns + c) as usize] * scale(WEIGHT_EXPONENT));
            }
            let place = (t * p.y_stride + p.y_offset + c) as usize;
            let product = sum * scale(-WEIGHT_EXPONENT) * scale(-exponent);
            y[place] = if p.accumulate == 1 { y[place] + product } else { product };
        }
    }
}

/// The fast form on the CPU: the product in single precision of rounded factors.
pub fn cpu(params: &Params, element: Element, x: &[f32], w: &[u8], y: &mut [f32], exponents: &[i32]) {
    let p = params;
    let [tokens, rows, columns] = [p.tokens, p.rows, p.columns].map(|n| n as usize);
    let mut weights = decoded(element, w, rows * columns).into_owned();
    weights.par_chunks_mut(columns.max(1)).for_each(|row| round_scaled(row, WEIGHT_EXPONENT));
    let (stride, offset) = (p.x_stride as usize, p.x_offset as usize);
    let mut rounded = vec![0.0; tokens * rows];
    rounded.par_chunks_mut(rows.max(1)).enumerate().for_each(|(t, row)| {
        row.copy_from_slice(&x[t * stride + offset..][..rows]);
        round_scaled(row, exponents[t]);
    });
    let product = matmul_nn::Params {
        tokens: p.tokens,
        rows: p.rows,
        columns: p.columns,
        x_stride: p.rows,
        x_offset: 0,
        y_stride: p.y_stride,
        y_offset: p.y_offset,
        accumulate: p.accumulate,
    };
    matmul_nn::cpu(&product, Element::F32, &rounded, bytemuck::cast_slice(&weights), y);
}
