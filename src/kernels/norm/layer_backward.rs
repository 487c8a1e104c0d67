//! LayerNorm backward: with `x̂ = (x − mean) s`, `s = 1 / sqrt(variance + ε)` and `g = dy · gain`,
//! `dx = s (g − mean(g) − x̂ mean(g x̂))`, and the per-token terms `dy · x̂` of the gain's gradient.

use super::for_rows;
use super::layer_forward::statistics;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, index, launch, row_grid};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "norm/layer_backward", summary: "LayerNorm's input gradient and its gain's terms" };

kernel_params! {
    /// The shader's parameters.
    Params = NORM_LAYER_BACKWARD {
        /// Rows.
        rows: u32,
        /// Their width.
        width: u32,
        /// Elements from one row of x to the next.
        x_stride: u32,
        /// First column of x.
        x_offset: u32,
        /// Elements from one row of dy to the next.
        dy_stride: u32,
        /// First column of dy.
        dy_offset: u32,
        /// Elements from one row of dx to the next.
        dx_stride: u32,
        /// First column of dx.
        dx_offset: u32,
        /// 1: dx is added to.
        accumulate: u32,
        /// Added to the variance.
        epsilon: f32,
    }
}

/// Computes dx (or adds to it) and the gain's terms, `[tokens, width]`.
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
        rows: index(tokens)?,
        width: index(width)?,
        x_stride: index(x.stride)?,
        x_offset: index(x.offset)?,
        dy_stride: index(dy.stride)?,
        dy_offset: index(dy.offset)?,
        dx_stride: index(dx.stride)?,
        dx_offset: index(dx.offset)?,
        accumulate: u32::from(accumulate),
        epsilon,
    };
    let buffers = [x.buffer, gain, dy.buffer, dx.buffer, gain_terms];
    launch(device, KERNEL.name, "", &params, &buffers, row_grid(tokens), |buffers| {
        let (x, gain, dy) = (buffers.read(1), buffers.read(2), buffers.read(3));
        cpu(&params, &x, &gain, &dy, &mut buffers.write(4), &mut buffers.write(5));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.rows) * u64::from(params.width);
    Cost { bytes: 4 * ((4 + u64::from(params.accumulate)) * count + u64::from(params.width)), operations: 15 * count }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], gain: &[R], dy: &[R], dx: &mut [R], gain_terms: &mut [R]) {
    let width = params.width as usize;
    let over = |sum: R| sum / R::real(width as f64);
    for r in 0..params.rows {
        let x_first = (r * params.x_stride + params.x_offset) as usize;
        let dy_first = (r * params.dy_stride + params.dy_offset) as usize;
        let dx_first = (r * params.dx_stride + params.dx_offset) as usize;
        let (mut sum, mut gradients) = (R::default(), R::default());
        for i in 0..width {
            sum += x[x_first + i];
            gradients += dy[dy_first + i] * gain[i];
        }
        let (mean, mean_gradient) = (over(sum), over(gradients));
        let (mut squares, mut products) = (R::default(), R::default());
        for i in 0..width {
            let centred = x[x_first + i] - mean;
            squares += centred * centred;
            products += dy[dy_first + i] * gain[i] * centred;
        }
        let scale = R::real(1.0) / (over(squares) + R::real(f64::from(params.epsilon))).sqrt();
        let pull = over(products) * scale * scale;
        for i in 0..width {
            let (centred, delta) = (x[x_first + i] - mean, dy[dy_first + i]);
            let result = scale * (delta * gain[i] - mean_gradient - centred * pull);
            gain_terms[r as usize * width + i] = delta * centred * scale;
            dx[dx_first + i] = if params.accumulate == 1 { dx[dx_first + i] + result } else { result };
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], gain: &[f32], dy: &[f32], dx: &mut [f32], gain_terms: &mut [f32]) {
    let (rows, width) = (params.rows as usize, params.width as usize);
    let x_row = |r: usize| &x[r * params.x_stride as usize + params.x_offset as usize..][..width];
    let dy_row = |r: usize| &dy[r * params.dy_stride as usize + params.dy_offset as usize..][..width];
    for_rows(
        rows,
        gain_terms,
        |r| r * width,
        width,
        |r, terms| {
            let (x, dy) = (x_row(r), dy_row(r));
            let (mean, scale) = statistics(x, params.epsilon);
            for ((term, x), dy) in terms.iter_mut().zip(x).zip(dy) {
                *term = dy * (x - mean) * scale;
            }
        },
    );
    let place = |r: usize| r * params.dx_stride as usize + params.dx_offset as usize;
    for_rows(rows, dx, place, width, |r, dx| {
        let (x, dy) = (x_row(r), dy_row(r));
        let (mean, scale) = statistics(x, params.epsilon);
        let sums = x.iter().zip(dy).zip(gain).fold((0.0, 0.0), |(gradients, products), ((x, dy), gain)| {
            let gradient = f64::from(dy * gain);
            (gradients + gradient, products + gradient * f64::from(x - mean))
        });
        let mean_gradient = (sums.0 / width as f64) as f32;
        let pull = (sums.1 / width as f64) as f32 * scale * scale;
        let accumulate = params.accumulate == 1;
        for (((dx, x), dy), gain) in dx.iter_mut().zip(x).zip(dy).zip(gain) {
            let result = scale * (dy * gain - mean_gradient - (x - mean) * pull);
            *dx = if accumulate { *dx + result } else { result };
        }
    });
}
