//! Gradient of RMSNorm at its input, and the terms of its gain's gradient: with `u = 1 / sqrt(mean(x²) + ε)` and `n = x u`,
//! `gain_terms = dy ⊙ n` and `dx = u (dy ⊙ gain - n mean(dy ⊙ gain ⊙ n))`.

use rayon::prelude::*;

use super::variant;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::lanes::{dot, multiversioned};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, flat_grid, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "norm/rms_backward", summary: "gradient of RMSNorm and the terms of its gain's gradient" };

kernel_params! {
    /// The shader's parameters.
    Params = NORM_RMS_BACKWARD {
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
        /// Elements from one token of dY to the next.
        dy_stride: u32,
        /// First column of dY.
        dy_offset: u32,
        /// Elements from one token of dX to the next.
        dx_stride: u32,
        /// First column of dX.
        dx_offset: u32,
        /// 0: dX is replaced; 1: added to.
        accumulate: u32,
    }
}

/// Computes `dx`, or adds to it where `accumulate` is set, and writes `gain_terms` `[tokens * heads, width]`: for each row
/// what it contributes to the gain's gradient. `dy` and `dx` are different buffers; the rest is as in
/// [`rms_forward::run`](super::rms_forward::run).
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
    dy: Window<'_>,
    dx: Window<'_>,
    accumulate: bool,
    gain_terms: &Buffer,
) -> Result<()> {
    let params = Params {
        rows: index(tokens * heads)?,
        heads: index(heads)?,
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
    let workgroups = flat_grid(tokens * heads, 1);
    launch(
        device,
        KERNEL.name,
        &variant(device, KERNEL.name, tokens * heads, width),
        &params,
        &operands,
        workgroups,
        cost(&params),
        |buffers| {
            let (x, gain, dy) = (buffers.read(1), buffers.read(2), buffers.read(3));
            cpu(&params, &x, &gain, &dy, &mut buffers.write(4), &mut buffers.write(5));
        },
    )
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.rows) * u64::from(params.width);
    let moved = (4 + u64::from(params.accumulate)) * count + u64::from(params.width);
    Cost { bytes: 4 * moved, operations: 11 * count }
}

/// The shader's loops, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], gain: &[R], dy: &[R], dx: &mut [R], gain_terms: &mut [R]) {
    let p = params;
    let width = R::real(f64::from(p.width));
    for row in 0..p.rows {
        let (token, column) = (row / p.heads, row % p.heads * p.width);
        let x_row = (token * p.x_stride + p.x_offset + column) as usize;
        let dy_row = (token * p.dy_stride + p.dy_offset + column) as usize;
        let dx_row = (token * p.dx_stride + p.dx_offset + column) as usize;
        let (mut squares, mut products) = (R::default(), R::default());
        for i in 0..p.width as usize {
            let value = x[x_row + i];
            squares += value * value;
            products += dy[dy_row + i] * gain[i] * value;
        }
        let rms_inverse = R::real(1.0) / (squares / width + R::real(f64::from(p.epsilon))).sqrt();
        let mean_product = products * rms_inverse / width;
        for i in 0..p.width as usize {
            let normal = x[x_row + i] * rms_inverse;
            let gradient = dy[dy_row + i];
            let start = if p.accumulate == 1 { dx[dx_row + i] } else { R::default() };
            dx[dx_row + i] = start + rms_inverse * (gradient * gain[i] - normal * mean_product);
            gain_terms[(row * p.width) as usize + i] = gradient * normal;
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], gain: &[f32], dy: &[f32], dx: &mut [f32], gain_terms: &mut [f32]) {
    let [rows, heads, width] = [params.rows, params.heads, params.width].map(|n| n as usize);
    let columns = heads * width;
    let tokens = rows / heads.max(1);
    let inputs = x.par_chunks(params.x_stride as usize).zip(dy.par_chunks(params.dy_stride as usize));
    let outputs = dx.par_chunks_mut(params.dx_stride as usize).zip(gain_terms.par_chunks_mut(columns.max(1)));
    inputs.zip(outputs).take(tokens).for_each(|((x, dy), (dx, terms))| {
        let x = x[params.x_offset as usize..][..columns].chunks_exact(width);
        let dy = dy[params.dy_offset as usize..][..columns].chunks_exact(width);
        let dx = dx[params.dx_offset as usize..][..columns].chunks_exact_mut(width);
        for (((x, dy), dx), terms) in x.zip(dy).zip(dx).zip(terms.chunks_exact_mut(width)) {
            if params.accumulate == 0 {
                dx.fill(0.0);
            }
            add_gradient(x, &gain[..width], dy, params.epsilon, dx, terms);
        }
    });
}

multiversioned! {
    fn add_gradient(x: &[f32], gain: &[f32], dy: &[f32], epsilon: f32, dx: &mut [f32], terms: &mut [f32]) {
        let width = x.len() as f32;
        let rms_inverse = 1.0 / (dot(x, x) / width + epsilon).sqrt();
        for ((term, x), dy) in terms.iter_mut().zip(x).zip(dy) {
            *term = dy * (x * rms_inverse);
        }
        let mean_product = dot(terms, gain) / width;
        for (((dx, x), dy), gain) in dx.iter_mut().zip(x).zip(dy).zip(gain) {
            *dx += rms_inverse * (dy * gain - x * rms_inverse * mean_product);
        }
    }
}
