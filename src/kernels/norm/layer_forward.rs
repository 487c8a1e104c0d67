//! LayerNorm: `y = (x - mean(x)) / sqrt(variance(x) + ε) ⊙ gain + bias` (Ba, Kiros and Hinton 2016), with the variance taken
//! in a second pass over the row.

use rayon::prelude::*;

use super::variant;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{dot, multiversioned, sum};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "norm/layer_forward", summary: "LayerNorm of a token's row" };

kernel_params! {
    /// The shader's parameters.
    Params = NORM_LAYER_FORWARD {
        /// Rows of X and Y.
        tokens: u32,
        /// Elements of a row.
        width: u32,
        /// Added to the variance.
        epsilon: f32,
        /// Elements from one row of X to the next.
        x_stride: u32,
        /// First column of X.
        x_offset: u32,
        /// Elements from one row of Y to the next.
        y_stride: u32,
        /// First column of Y.
        y_offset: u32,
    }
}

/// Normalises `tokens` rows of `width` columns; `gain` and `bias` are `[width]`. `x` and `y` are different buffers.
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
        tokens: index(tokens)?,
        width: index(width)?,
        epsilon,
        x_stride: index(x.stride)?,
        x_offset: index(x.offset)?,
        y_stride: index(y.stride)?,
        y_offset: index(y.offset)?,
    };
    let operands = [x.buffer, gain, bias, y.buffer];
    launch(
        device,
        KERNEL.name,
        &variant(device, KERNEL.name, tokens, width),
        &params,
        &operands,
        flat_grid(tokens, 1),
        cost(&params),
        |buffers| {
            let (x, gain, bias) = (buffers.read(1), buffers.read(2), buffers.read(3));
            cpu(&params, &x, &gain, &bias, &mut buffers.write(4));
        },
    )
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    Cost { bytes: 4 * (2 * count + 2 * u64::from(params.width)), operations: 8 * count }
}

/// The shader's loops, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], gain: &[R], bias: &[R], y: &mut [R]) {
    let p = params;
    let width = R::real(f64::from(p.width));
    for token in 0..p.tokens {
        let x_row = (token * p.x_stride + p.x_offset) as usize;
        let y_row = (token * p.y_stride + p.y_offset) as usize;
        let mut values = R::default();
        for i in 0..p.width as usize {
            values += x[x_row + i];
        }
        let mean = values / width;
        let mut squares = R::default();
        for i in 0..p.width as usize {
            let distance = x[x_row + i] - mean;
            squares += distance * distance;
        }
        let deviation_inverse = R::real(1.0) / (squares / width + R::real(f64::from(p.epsilon))).sqrt();
        for i in 0..p.width as usize {
            y[y_row + i] = (x[x_row + i] - mean) * deviation_inverse * gain[i] + bias[i];
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], gain: &[f32], bias: &[f32], y: &mut [f32]) {
    let [tokens, width] = [params.tokens, params.width].map(|n| n as usize);
    let x_rows = x.par_chunks(params.x_stride as usize);
    y.par_chunks_mut(params.y_stride as usize).zip(x_rows).take(tokens).for_each(|(y, x)| {
        let x = &x[params.x_offset as usize..][..width];
        let y = &mut y[params.y_offset as usize..][..width];
        normalise(x, &gain[..width], &bias[..width], params.epsilon, y);
    });
}

multiversioned! {
    fn normalise(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32]) {
        let width = x.len() as f32;
        let mean = sum(x) / width;
        for (y, x) in y.iter_mut().zip(x) {
            *y = x - mean;
        }
        let deviation_inverse = 1.0 / (dot(y, y) / width + epsilon).sqrt();
        for ((y, gain), bias) in y.iter_mut().zip(gain).zip(bias) {
            *y = *y * deviation_inverse * gain + bias;
        }
    }
}
