//! LayerNorm (Ba, Kiros and Hinton 2016): `y = (x − mean) / sqrt(variance + ε) · gain + bias`.

use super::for_rows;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, index, launch, row_grid};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "norm/layer_forward", summary: "LayerNorm of rows" };

kernel_params! {
    /// The shader's parameters.
    Params = NORM_LAYER_FORWARD {
        /// Rows of x and y.
        rows: u32,
        /// Their width.
        width: u32,
        /// Elements from one row of x to the next.
        x_stride: u32,
        /// First column of x.
        x_offset: u32,
        /// Elements from one row of y to the next.
        y_stride: u32,
        /// First column of y.
        y_offset: u32,
        /// Added to the variance.
        epsilon: f32,
    }
}

/// Normalises `tokens` rows.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    tokens: usize,
    width: usize,
    epsilon: f32,
    x: Window<'_>,
    gain: &Buffer,
    bias: &Buffer,
    y: Window<'_>,
) -> Result<()> {
    let params = Params {
        rows: index(tokens)?,
        width: index(width)?,
        x_stride: index(x.stride)?,
        x_offset: index(x.offset)?,
        y_stride: index(y.stride)?,
        y_offset: index(y.offset)?,
        epsilon,
    };
    launch(device, KERNEL.name, "", &params, &[x.buffer, gain, bias, y.buffer], row_grid(tokens), |buffers| {
        cpu(&params, &buffers.read(1), &buffers.read(2), &buffers.read(3), &mut buffers.write(4));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.rows) * u64::from(params.width);
    Cost { bytes: 4 * (2 * count + 2 * u64::from(params.width)), operations: 7 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], gain: &[R], bias: &[R], y: &mut [R]) {
    let width = params.width as usize;
    for r in 0..params.rows {
        let x_first = (r * params.x_stride + params.x_offset) as usize;
        let y_first = (r * params.y_stride + params.y_offset) as usize;
        let mut sum = R::default();
        for i in 0..width {
            sum += x[x_first + i];
        }
        let mean = sum / R::real(width as f64);
        let mut squares = R::default();
        for i in 0..width {
            squares += (x[x_first + i] - mean) * (x[x_first + i] - mean);
        }
        let scale = R::real(1.0) / (squares / R::real(width as f64) + R::real(f64::from(params.epsilon))).sqrt();
        for i in 0..width {
            y[y_first + i] = (x[x_first + i] - mean) * scale * gain[i] + bias[i];
        }
    }
}

/// Mean and 1 / sqrt(variance + ε) of a row.
pub(super) fn statistics(x: &[f32], epsilon: f32) -> (f32, f32) {
    let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / x.len() as f64;
    (mean as f32, (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32)
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], gain: &[f32], bias: &[f32], y: &mut [f32]) {
    let width = params.width as usize;
    let place = |r: usize| r * params.y_stride as usize + params.y_offset as usize;
    for_rows(params.rows as usize, y, place, width, |r, y| {
        let x = &x[r * params.x_stride as usize + params.x_offset as usize..][..width];
        let (mean, scale) = statistics(x, params.epsilon);
        for (((y, x), gain), bias) in y.iter_mut().zip(x).zip(gain).zip(bias) {
            *y = (x - mean) * scale * gain + bias;
        }
    });
}
