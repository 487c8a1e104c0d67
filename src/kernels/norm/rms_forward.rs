//! RMSNorm: `y = x / sqrt(mean(x²) + ε) ⊙ gain` (Zhang and Sennrich 2019).

use rayon::prelude::*;

use super::variant;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{dot, multiversioned};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "norm/rms_forward", summary: "RMSNorm of a token's row or of its heads" };

kernel_params! {
    /// The shader's parameters.
    Params = NORM_RMS_FORWARD {
        /// Rows: tokens times heads.
        rows: u32,
        /// Rows that lie next to each other in one token.
        heads: u32,
        /// Elements of a row.
        width: u32,
        /// Added to the mean square.
        epsilon: f32,
        /// Elements from one token of X to the next.
        x_stride: u32,
        /// First column of X.
        x_offset: u32,
        /// Elements from one token of Y to the next.
        y_stride: u32,
        /// First column of Y.
        y_offset: u32,
    }
}

/// Normalises, for each of `tokens`, the `heads` consecutive rows of `width` columns; `gain` is `[width]`. `heads` is 1 for
/// the norm of a whole row. `x` and `y` are different buffers.
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
        epsilon,
        x_stride: index(x.stride)?,
        x_offset: index(x.offset)?,
        y_stride: index(y.stride)?,
        y_offset: index(y.offset)?,
    };
    let workgroups = flat_grid(tokens * heads, 1);
    launch(
        device,
        KERNEL.name,
        &variant(device, KERNEL.name, tokens * heads, width),
        &params,
        &[x.buffer, gain, y.buffer],
        workgroups,
        cost(&params),
        |buffers| {
            cpu(&params, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
        },
    )
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.rows) * u64::from(params.width);
    Cost { bytes: 4 * (2 * count + u64::from(params.width)), operations: 4 * count }
}

/// The shader's loops, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], gain: &[R], y: &mut [R]) {
    let p = params;
    for row in 0..p.rows {
        let (token, column) = (row / p.heads, row % p.heads * p.width);
        let x_row = (token * p.x_stride + p.x_offset + column) as usize;
        let y_row = (token * p.y_stride + p.y_offset + column) as usize;
        let mut squares = R::default();
        for i in 0..p.width as usize {
            squares += x[x_row + i] * x[x_row + i];
        }
        let mean_square = squares / R::real(f64::from(p.width));
        let rms_inverse = R::real(1.0) / (mean_square + R::real(f64::from(p.epsilon))).sqrt();
        for i in 0..p.width as usize {
            y[y_row + i] = x[x_row + i] * rms_inverse * gain[i];
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], gain: &[f32], y: &mut [f32]) {
    let [rows, heads, width] = [params.rows, params.heads, params.width].map(|n| n as usize);
    let columns = heads * width;
    let tokens = rows / heads.max(1);
    let x_rows = x.par_chunks(params.x_stride as usize);
    y.par_chunks_mut(params.y_stride as usize).zip(x_rows).take(tokens).for_each(|(y, x)| {
        let x = &x[params.x_offset as usize..][..columns];
        let y = &mut y[params.y_offset as usize..][..columns];
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            normalise(x, &gain[..width], params.epsilon, y);
        }
    });
}

multiversioned! {
    fn normalise(x: &[f32], gain: &[f32], epsilon: f32, y: &mut [f32]) {
        let rms_inverse = 1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt();
        for ((y, x), gain) in y.iter_mut().zip(x).zip(gain) {
            *y = x * rms_inverse * gain;
        }
    }
}
