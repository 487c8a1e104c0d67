//! The importance of a weight matrix in mixed precision: `linear/weight_importance` with factors rounded to half precision.
//! See `kernels::precision` for how they are scaled.

use rayon::prelude::*;

use super::{edges, row_exponents, weight_importance};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::precision::{Unit, half, power, round_scaled};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Accumulate, Cost, Kernel, Real, Segments, Window, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel {
    name: "linear/mixed_importance",
    summary: "importance of a weight matrix with factors in half and sums in single precision",
};

kernel_params! {
    /// The shader's parameters.
    Params = LINEAR_MIXED_IMPORTANCE {
        /// Units that have a gradient.
        units: u32,
        /// Rows of F: columns of `left`.
        rows: u32,
        /// Columns of F: columns of `right`.
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

/// The parameters of a launch.
///
/// # Errors
/// When a size exceeds a shader's indices.
pub fn params(
    segments: Segments<'_>,
    left: Window<'_>,
    right: Window<'_>,
    rows: usize,
    columns: usize,
) -> Result<Params> {
    Ok(Params {
        units: index(segments.count)?,
        rows: index(rows)?,
        columns: index(columns)?,
        left_stride: index(left.stride)?,
        left_offset: index(left.offset)?,
        right_stride: index(right.stride)?,
        right_offset: index(right.offset)?,
    })
}

/// Accumulates the gradients of all `segments` into `importance`, as `weight_importance::run` does, on `unit`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    unit: Unit,
    accumulate: Accumulate,
    segments: Segments<'_>,
    left: Window<'_>,
    right: Window<'_>,
    rows: usize,
    columns: usize,
    importance: &Buffer,
) -> Result<()> {
    let params = params(segments, left, right, rows, columns)?;
    let left_exponents = row_exponents::leased(device, segments.end, rows, left)?;
    let right_exponents = row_exponents::leased(device, segments.end, columns, right)?;
    let tile = unit.tile();
    let whole = rows.is_multiple_of(tile.rows) && columns.is_multiple_of(tile.columns);
    let edges = edges(whole, &[left, right]);
    let variant = format!("ACCUMULATE={},UNIT={},EDGES={edges}", accumulate.name(), unit.name());
    let buffers = [segments.offsets, left.buffer, right.buffer, &left_exponents, &right_exponents, importance];
    let workgroups = tile.grid(rows, columns);
    launch(device, KERNEL.name, &variant, &params, &buffers, workgroups, cost(&params, segments.tokens), |buffers| {
        let (offsets, left, right) = (buffers.read(1), buffers.read(2), buffers.read(3));
        let (left_exponents, right_exponents) = (buffers.read(4), buffers.read(5));
        let importance = &mut buffers.write(6);
        cpu(&params, accumulate, &offsets, &left, &right, &left_exponents, &right_exponents, importance);
    })
}

/// What one launch on `tokens` tokens costs.
pub fn cost(params: &Params, tokens: usize) -> Cost {
    let [units, rows, columns, tokens] =
        [params.units.into(), params.rows.into(), params.columns.into(), tokens as u64];
    Cost {
        bytes: 4 * (units + 1 + tokens * (rows + columns + 2) + 2 * rows * columns),
        operations: 2 * (tokens + units) * rows * columns,
    }
}

/// The power that a unit's rows share: the least that one of them allows.
fn shared(exponents: &[i32]) -> i32 {
    exponents.iter().copied().min().unwrap_or(row_exponents::LARGEST_POWER)
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(
    params: &Params,
    accumulate: Accumulate,
    offsets: &[u32],
    left: &[R],
    right: &[R],
    left_exponents: &[i32],
    right_exponents: &[i32],
    importance: &mut [R],
) {
    let p = params;
    let scale = |exponent: i32| R::real(f64::from(power(exponent)));
    for n in 0..p.units as usize {
        let unit = offsets[n] as usize..offsets[n + 1] as usize;
        let (el, er) = (shared(&left_exponents[unit.clone()]), shared(&right_exponents[unit]));
        for r in 0..p.rows {
            for c in 0..p.columns {
                let mut sum = R::default();
                for t in offsets[n]..offsets[n + 1] {
                    let l = left[(t * p.left_stride + p.left_offset + r) as usize];
                    let r = right[(t * p.right_stride + p.right_offset + c) as usize];
                    sum += half(l * scale(el)) * half(r * scale(er));
                }
                let f = &mut importance[(r * p.columns + c) as usize];
                *f = accumulate.fold(*f, sum * scale(-el) * scale(-er));
            }
        }
    }
}

/// The fast form on the CPU: the importance in single precision of rounded factors.
pub fn cpu(
    params: &Params,
    accumulate: Accumulate,
    offsets: &[u32],
    left: &[f32],
    right: &[f32],
    left_exponents: &[i32],
    right_exponents: &[i32],
    importance: &mut [f32],
) {
    let p = params;
    let offsets = &offsets[..=p.units as usize];
    let first = offsets[0];
    let rounded = |values: &[f32], exponents: &[i32], width: u32, stride: u32, offset: u32| {
        let [width, stride, offset] = [width, stride, offset].map(|n| n as usize);
        let mut rows = vec![0.0; (offsets[p.units as usize] - first) as usize * width];
        for unit in offsets.windows(2) {
            let tokens = unit[0] as usize..unit[1] as usize;
            let exponent = shared(&exponents[tokens.clone()]);
            let rows = &mut rows[(tokens.start - first as usize) * width..(tokens.end - first as usize) * width];
            rows.par_chunks_mut(width.max(1)).zip(tokens).for_each(|(row, t)| {
                row.copy_from_slice(&values[t * stride + offset..][..width]);
                round_scaled(row, exponent);
            });
        }
        rows
    };
    let left = rounded(left, left_exponents, p.rows, p.left_stride, p.left_offset);
    let right = rounded(right, right_exponents, p.columns, p.right_stride, p.right_offset);
    let params = weight_importance::Params {
        units: p.units,
        rows: p.rows,
        columns: p.columns,
        left_stride: p.rows,
        left_offset: 0,
        right_stride: p.columns,
        right_offset: 0,
    };
    let offsets: Vec<u32> = offsets.iter().map(|offset| offset - first).collect();
    weight_importance::cpu(&params, accumulate, &offsets, &left, &right, importance);
}
