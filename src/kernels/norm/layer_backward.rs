//! Gradient of LayerNorm at its input, and the terms of its gain's gradient: with `u = 1 / sqrt(variance(x) + ε)` and
//! `n = (x - mean(x)) u`, `gain_terms = dy ⊙ n` and `dx = u (dy ⊙ gain - mean(dy ⊙ gain) - n mean(dy ⊙ gain ⊙ n))`.

use rayon::prelude::*;

use super::variant;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{dot, multiversioned, sum};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "norm/layer_backward", summary: "gradient of LayerNorm and the terms of its gain's gradient" };

kernel_params! {
    /// The shader's parameters.
    Params = NORM_LAYER_BACKWARD {
        /// Rows of X, dY and dX.
        tokens: u32,
        /// Elements of a row.
        width: u32,
        /// Added to the variance.
        epsilon: f32,
        /// Elements from one row of X to the next.
        x_stride: u32,
        /// First column of X.
        x_offset: u32,
        /// Elements from one row of dY to the next.
        dy_stride: u32,
        /// First column of dY.
        dy_offset: u32,
        /// Elements from one row of dX to the next.
        dx_stride: u32,
        /// First column of dX.
        dx_offset: u32,
        /// 0: dX is replaced; 1: added to.
        accumulate: u32,
    }
}

/// Computes `dx`, or adds to it where `accumulate` is set, and writes `gain_terms` `[tokens, width]`: for each token what it
/// contributes to the gain's gradient. What it contributes to the bias's gradient is `dy` itself. `dy` and `dx` are
/// different buffers.
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
    dy: Window<'_>,
    dx: Window<'_>,
    accumulate: bool,
    gain_terms: &Buffer,
) -> Result<()> {
    let params = Params {
        tokens: index(tokens)?,
        width: index(width)?,
        epsilon,
        x_stride: index(x.stride)?,
        x_offset: index(x.offset)?,
        dy_stride: index(dy.stride)?,
        dy_offset: index(dy.offset)?,
        dx_stride: index(dx.stride)?,
        dx_offset: index(dx.offset)?,
        accumulate: u32::from(accumulate),
    };
    let operands = [x.buffer, gain, dy.buffer, dx.buffer, gain_terms];
    launch(
        device,
        KERNEL.name,
        &variant(device, KERNEL.name, tokens, width),
        &params,
        &operands,
        flat_grid(tokens, 1),
        cost(&params),
        |buffers| {
            let (x, gain, dy) = (buffers.read(1), buffers.read(2), buffers.read(3));
            cpu(&params, &x, &gain, &dy, &mut buffers.write(4), &mut buffers.write(5));
        },
    )
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.tokens) * u64::from(params.width);
    let moved = (4 + u64::from(params.accumulate)) * count + u64::from(params.width);
    Cost { bytes: 4 * moved, operations: 17 * count }
}

/// The shader's loops, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], gain: &[R], dy: &[R], dx: &mut [R], gain_terms: &mut [R]) {
    let p = params;
    let width = R::real(f64::from(p.width));
    for token in 0..p.tokens {
        let x_row = (token * p.x_stride + p.x_offset) as usize;
        let dy_row = (token * p.dy_stride + p.dy_offset) as usize;
        let dx_row = (token * p.dx_stride + p.dx_offset) as usize;
        let (mut values, mut gradients) = (R::default(), R::default());
        for i in 0..p.width as usize {
            values += x[x_row + i];
            gradients += dy[dy_row + i] * gain[i];
        }
        let (mean, mean_gradient) = (values / width, gradients / width);
        let (mut squares, mut products) = (R::default(), R::default());
        for i in 0..p.width as usize {
            let distance = x[x_row + i] - mean;
            squares += distance * distance;
            products += dy[dy_row + i] * gain[i] * distance;
        }
        let deviation_inverse = R::real(1.0) / (squares / width + R::real(f64::from(p.epsilon))).sqrt();
        let mean_product = products * deviation_inverse / width;
        for i in 0..p.width as usize {
            let normal = (x[x_row + i] - mean) * deviation_inverse;
            let gradient = dy[dy_row + i];
            let start = if p.accumulate == 1 { dx[dx_row + i] } else { R::default() };
            dx[dx_row + i] = start + deviation_inverse * (gradient * gain[i] - mean_gradient - normal * mean_product);
            gain_terms[(token * p.width) as usize + i] = gradient * normal;
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], gain: &[f32], dy: &[f32], dx: &mut [f32], gain_terms: &mut [f32]) {
    let [tokens, width] = [params.tokens, params.width].map(|n| n as usize);
    let inputs = x.par_chunks(params.x_stride as usize).zip(dy.par_chunks(params.dy_stride as usize));
    let outputs = dx.par_chunks_mut(params.dx_stride as usize).zip(gain_terms.par_chunks_mut(width.max(1)));
    inputs.zip(outputs).take(tokens).for_each(|((x, dy), (dx, terms))| {
        let x = &x[params.x_offset as usize..][..width];
        let dy = &dy[params.dy_offset as usize..][..width];
        let dx = &mut dx[params.dx_offset as usize..][..width];
        if params.accumulate == 0 {
            dx.fill(0.0);
        }
        add_gradient(x, &gain[..width], dy, params.epsilon, dx, terms);
    });
}

multiversioned! {
    fn add_gradient(x: &[f32], gain: &[f32], dy: &[f32], epsilon: f32, dx: &mut [f32], terms: &mut [f32]) {
        let width = x.len() as f32;
        let mean = sum(x) / width;
        for (term, x) in terms.iter_mut().zip(x) {
            *term = x - mean;
        }
        let deviation_inverse = 1.0 / (dot(terms, terms) / width + epsilon).sqrt();
        for (term, dy) in terms.iter_mut().zip(dy) {
            *term = dy * (*term * deviation_inverse);
        }
        let (mean_gradient, mean_product) = (dot(dy, gain) / width, dot(terms, gain) / width);
        for (((dx, x), dy), gain) in dx.iter_mut().zip(x).zip(dy).zip(gain) {
            let normal = (x - mean) * deviation_inverse;
            *dx += deviation_inverse * (dy * gain - mean_gradient - normal * mean_product);
        }
    }
}
