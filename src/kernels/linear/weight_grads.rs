//! The weight gradient of one unit: `G[r, c] = Σ_t left[t, r] right[t, c]` over the unit's tokens.

use std::ops::Range;

use super::gradient_variant;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::dense::{product, view, view_mut};
use crate::kernels::shader::kernel_params;
use crate::kernels::tuning::Problem;
use crate::kernels::{Cost, Kernel, Real, Window, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "linear/weight_grads", summary: "the weight gradient of one unit, G = left^T right" };

kernel_params! {
    /// The shader's parameters.
    Params = LINEAR_WEIGHT_GRADS {
        /// The unit's first token.
        begin: u32,
        /// One past its last token.
        end: u32,
        /// Rows of G: columns of `left`.
        rows: u32,
        /// Columns of G: columns of `right`.
        columns: u32,
        /// Elements from one row of `left` to the next.
        left_stride: u32,
        /// First column of `left`.
        left_offset: u32,
        /// Elements from one row of `right` to the next.
        right_stride: u32,
        /// First column of `right`.
        right_offset: u32,
    }
}

/// Writes G of the unit `tokens` to `grads` `[rows, columns]`. For a matrix stored `[out, in]`, `left` is the gradient at
/// the layer's output and `right` its input; for one stored `[in, out]` it is the other way round.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: Range<usize>,
    left: Window<'_>,
    right: Window<'_>,
    rows: usize,
    columns: usize,
    grads: &Buffer,
) -> Result<()> {
    let params = Params {
        begin: index(tokens.start)?,
        end: index(tokens.end)?,
        rows: index(rows)?,
        columns: index(columns)?,
        left_stride: index(left.stride)?,
        left_offset: index(left.offset)?,
        right_stride: index(right.stride)?,
        right_offset: index(right.offset)?,
    };
    let problem = Problem { kernel: KERNEL.name, element: None, rows, columns };
    let (variant, tile) = gradient_variant(device, &problem, &[left, right]);
    let workgroups = tile.grid(rows, columns);
    launch(
        device,
        KERNEL.name,
        &variant,
        &params,
        &[left.buffer, right.buffer, grads],
        workgroups,
        cost(&params),
        |buffers| {
            cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
        },
    )
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let [rows, columns] = [params.rows, params.columns].map(u64::from);
    let tokens = u64::from(params.end - params.begin);
    Cost { bytes: 4 * (tokens * (rows + columns) + rows * columns), operations: 2 * tokens * rows * columns }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, left: &[R], right: &[R], grads: &mut [R]) {
    let p = params;
    for r in 0..p.rows {
        for c in 0..p.columns {
            let mut g = R::default();
            for t in p.begin..p.end {
                g += left[(t * p.left_stride + p.left_offset + r) as usize]
                    * right[(t * p.right_stride + p.right_offset + c) as usize];
            }
            grads[(r * p.columns + c) as usize] = g;
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, left: &[f32], right: &[f32], grads: &mut [f32]) {
    let p = params;
    let [begin, end, rows, columns] = [p.begin, p.end, p.rows, p.columns].map(|n| n as usize);
    let window = |values: &'_ [f32], stride: u32, offset: u32| begin * stride as usize + offset as usize..values.len();
    let left = &left[window(left, p.left_stride, p.left_offset)];
    let right = &right[window(right, p.right_stride, p.right_offset)];
    let left = view(left, end - begin, rows, p.left_stride as usize);
    let right = view(right, end - begin, columns, p.right_stride as usize);
    product(view_mut(grads, rows, columns, columns), false, left.transpose(), right, true);
}
