//! By which power of two each row of activations can be multiplied before it is rounded to half precision: the largest that
//! keeps it in range.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Buffer, Device, Lease};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, index, launch, row_grid};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "linear/row_exponents", summary: "the power of two that brings a row into half precision's range" };

kernel_params! {
    /// The shader's parameters.
    Params = LINEAR_ROW_EXPONENTS {
        /// Rows of X.
        rows: u32,
        /// Columns that count.
        width: u32,
        /// Elements from one row to the next.
        stride: u32,
        /// First column.
        offset: u32,
    }
}

/// The exponent field of an `f32` for 2^14: the largest magnitude comes to lie between 2^14 and 2^15.
const HIGHEST: i32 = 127 + 14;
/// Both a power and its inverse are normal numbers.
pub(crate) const LARGEST_POWER: i32 = 126;

/// Writes the exponents of `rows` rows of `width` columns to `exponents`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(device: &Device, rows: usize, width: usize, x: Window<'_>, exponents: &Buffer) -> Result<()> {
    let params =
        Params { rows: index(rows)?, width: index(width)?, stride: index(x.stride)?, offset: index(x.offset)? };
    launch(device, KERNEL.name, "", &params, &[x.buffer, exponents], row_grid(rows), cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &mut buffers.write(2));
    })
}

/// The exponents in a scratch buffer of their own.
///
/// # Errors
/// When the device has no room for it or failed.
pub(crate) fn leased(device: &Device, rows: usize, width: usize, x: Window<'_>) -> Result<Lease> {
    // Few sizes, so that scratch buffers are used again.
    let exponents = device.scratch(rows.next_power_of_two() as u64 * 4)?;
    run(device, rows, width, x, &exponents)?;
    Ok(exponents)
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let [rows, width] = [params.rows, params.width].map(u64::from);
    Cost { bytes: 4 * rows * (width + 1), operations: rows * width }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], exponents: &mut [i32]) {
    let p = params;
    for row in 0..p.rows {
        let mut largest = 0.0f64;
        for i in 0..p.width {
            largest = largest.max(x[(row * p.stride + p.offset + i) as usize].abs().wide());
        }
        let field = (largest as f32).to_bits() >> 23;
        exponents[row as usize] = (HIGHEST - field as i32).min(LARGEST_POWER);
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], exponents: &mut [i32]) {
    let [rows, width, stride, offset] = [params.rows, params.width, params.stride, params.offset].map(|n| n as usize);
    exponents[..rows].copy_from_slice(&of(x, rows, width, stride, offset));
}

/// The exponents of `rows` rows.
pub(crate) fn of(x: &[f32], rows: usize, width: usize, stride: usize, offset: usize) -> Vec<i32> {
    let exponent = |row: usize| {
        // Without their signs, numbers are ordered as their bits are; what is no number is beyond all others.
        let values = &x[row * stride + offset..][..width];
        let largest = values.iter().fold(0, |largest: u32, v| largest.max(v.to_bits() & 0x7fff_ffff));
        (HIGHEST - (largest >> 23) as i32).min(LARGEST_POWER)
    };
    (0..rows).into_par_iter().map(exponent).collect()
}
