//! RMSNorm (Zhang and Sennrich 2019): `y = x / sqrt(mean(x²) + ε) · gain`, for rows or for each head's part of a row.

use super::for_rows;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, index, launch, row_grid};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "norm/rms_forward", summary: "RMSNorm of rows or of heads" };

kernel_params! {
    /// The shader's parameters.
    Params = NORM_RMS_FORWARD {
        /// Tokens times heads.
        rows: u32,
        /// Parts of a token's row that are normalised each by itself.
        heads: u32,
        /// Width of a part.
        width: u32,
        /// Elements from one token of x to the next.
        x_stride: u32,
        /// First column of x.
        x_offset: u32,
        /// Elements from one token of y to the next.
        y_stride: u32,
        /// First column of y.
        y_offset: u32,
        /// Added to the mean square.
        epsilon: f32,
    }
}

/// Normalises `heads` parts of `width` of each token's row.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: usize,
    heads: usize,
    width: usize,
    epsilon: f32,
    x: Window<'_>,
    gain: &Buffer,
    y: Window<'_>,
) -> Result<()> {
    let params = Params {
        rows: index(tokens * heads)?,
        heads: index(heads)?,
        width: index(width)?,
        x_stride: index(x.stride)?,
        x_offset: index(x.offset)?,
        y_stride: index(y.stride)?,
        y_offset: index(y.offset)?,
        epsilon,
    };
    launch(device, KERNEL.name, "", &params, &[x.buffer, gain, y.buffer], row_grid(tokens * heads), |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.rows) * u64::from(params.width);
    Cost { bytes: 4 * (2 * count + u64::from(params.width)), operations: 4 * count }
}

/// Where row `r` begins in a buffer.
fn first(params: &Params, r: u32, stride: u32, offset: u32) -> usize {
    (r / params.heads * stride + offset + r % params.heads * params.width) as usize
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], gain: &[R], y: &mut [R]) {
    let width = params.width as usize;
    for r in 0..params.rows {
        let x_first = first(params, r, params.x_stride, params.x_offset);
        let y_first = first(params, r, params.y_stride, params.y_offset);
        let mut squares = R::default();
        for i in 0..width {
            squares += x[x_first + i] * x[x_first + i];
        }
        let scale = R::real(1.0) / (squares / R::real(width as f64) + R::real(f64::from(params.epsilon))).sqrt();
        for i in 0..width {
            y[y_first + i] = x[x_first + i] * scale * gain[i];
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], gain: &[f32], y: &mut [f32]) {
    let width = params.width as usize;
    let place = |r: usize| first(params, r as u32, params.y_stride, params.y_offset);
    for_rows(params.rows as usize, y, place, width, |r, y| {
        let x_first = first(params, r as u32, params.x_stride, params.x_offset);
        let x = &x[x_first..x_first + width];
        let squares: f64 = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        let scale = (1.0 / (squares / width as f64 + f64::from(params.epsilon)).sqrt()) as f32;
        for ((y, x), gain) in y.iter_mut().zip(x).zip(gain) {
            *y = x * scale * gain;
        }
    });
}
