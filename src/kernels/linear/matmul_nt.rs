//! `Y = X Wᵀ`: `y[t, r] = start + Σ_c x[t, c] w[r, c]`. The forward product of a linear layer stored `[out, in]`, and the
//! input gradient of one stored `[in, out]`.

use super::{mixed_nt, product_variant};
use crate::device::Device;
use crate::kernels::dense::{product, view, view_mut};
use crate::kernels::operands::decoded;
use crate::kernels::panels::{self, Right, Stored};
use crate::kernels::shader::kernel_params;
use crate::kernels::tuning::Problem;
use crate::kernels::{Cost, Kernel, Matrix, Real, Window, index, launch};
use crate::{Element, Result};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "linear/matmul_nt", summary: "Y = X W^T, the forward product of a linear layer" };

kernel_params! {
    /// The shader's parameters.
    Params = LINEAR_MATMUL_NT {
        /// Rows of X and Y.
        tokens: u32,
        /// Rows of W: columns of Y.
        rows: u32,
        /// Columns of W: columns of X.
        columns: u32,
        /// Elements from one row of X to the next.
        x_stride: u32,
        /// First column of X.
        x_offset: u32,
        /// Elements from one row of Y to the next.
        y_stride: u32,
        /// First column of Y.
        y_offset: u32,
        /// 0: sums start from zero; 1: from the value stored in Y.
        accumulate: u32,
    }
}

/// Computes `y = x wᵀ` for `tokens` rows, or adds to `y` where `accumulate` is set.
/// In mixed precision, `linear/mixed_nt` does it.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: usize,
    x: Window<'_>,
    w: Matrix<'_>,
    y: Window<'_>,
    accumulate: bool,
) -> Result<()> {
    if let Some(unit) = device.precision().unit(w.rows, w.columns) {
        return mixed_nt::run(device, unit, tokens, x, w, y, accumulate);
    }
    let params = Params {
        tokens: index(tokens)?,
        rows: index(w.rows)?,
        columns: index(w.columns)?,
        x_stride: index(x.stride)?,
        x_offset: index(x.offset)?,
        y_stride: index(y.stride)?,
        y_offset: index(y.offset)?,
        accumulate: u32::from(accumulate),
    };
    let problem = Problem { kernel: KERNEL.name, element: Some(w.element), rows: tokens, columns: w.rows };
    let (variant, tile) = product_variant(device, &problem, w.columns, &[x, y]);
    let workgroups = tile.grid(problem.rows, problem.columns);
    launch(
        device,
        KERNEL.name,
        &variant,
        &params,
        &[x.buffer, w.buffer, y.buffer],
        workgroups,
        cost(&params, w.element),
        |buffers| {
            cpu(&params, w.element, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
        },
    )
}

/// What one launch costs.
pub fn cost(params: &Params, element: Element) -> Cost {
    let [tokens, rows, columns] = [params.tokens, params.rows, params.columns].map(u64::from);
    let starts = u64::from(params.accumulate) * tokens * rows;
    Cost {
        bytes: 4 * (tokens * columns + tokens * rows + starts) + rows * columns * element.size() as u64,
        operations: 2 * tokens * rows * columns,
    }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], w: &[R], y: &mut [R]) {
    let p = params;
    for t in 0..p.tokens {
        for r in 0..p.rows {
            let place = (t * p.y_stride + p.y_offset + r) as usize;
            let mut sum = if p.accumulate == 1 { y[place] } else { R::default() };
            for c in 0..p.columns {
                sum += x[(t * p.x_stride + p.x_offset + c) as usize] * w[(r * p.columns + c) as usize];
            }
            y[place] = sum;
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, element: Element, x: &[f32], w: &[u8], y: &mut [f32]) {
    let [tokens, rows, columns] = [params.tokens, params.rows, params.columns].map(|n| n as usize);
    let y = view_mut(&mut y[params.y_offset as usize..], tokens, rows, params.y_stride as usize);
    // A matrix and a vector: packing W would cost more than it saves. From two tokens on, the panels sum in the same order whatever
    // their number.
    if tokens == 1 {
        let x = view(&x[params.x_offset as usize..], tokens, columns, params.x_stride as usize);
        let weights = decoded(element, w, rows * columns);
        return product(y, params.accumulate == 1, x, view(&weights, rows, columns, columns).transpose(), true);
    }
    let x = Stored::window(x, params.x_stride as usize, params.x_offset as usize);
    panels::product(y, params.accumulate == 1, x, columns, Right::Transposed(Stored::weights(element, w, columns)));
}
