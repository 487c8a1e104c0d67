//! RMSNorm backward: with `x̂ = x s`, `s = 1 / sqrt(mean(x²) + ε)` and `g = dy · gain`, `dx = s (g − x̂ mean(g x̂))`, and the
//! per-token terms `dy · x̂` of the gain's gradient.

use super::for_rows;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, Window, index, launch, row_grid};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "norm/rms_backward", summary: "RMSNorm's input gradient and its gain's terms" };

kernel_params! {
    /// The shader's parameters.
    Params = NORM_RMS_BACKWARD {
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
        /// Elements from one token of dy to the next.
        dy_stride: u32,
        /// First column of dy.
        dy_offset: u32,
        /// Elements from one token of dx to the next.
        dx_stride: u32,
        /// First column of dx.
        dx_offset: u32,
        /// 1: dx is added to.
        accumulate: u32,
        /// Added to the mean square.
        epsilon: f32,
    }
}

/// Computes dx (or adds to it) and the gain's terms, `[tokens · heads, width]`.
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
    launch(device, KERNEL.name, "", &params, &buffers, row_grid(tokens * heads), |buffers| {
        let (x, gain, dy) = (buffers.read(1), buffers.read(2), buffers.read(3));
        cpu(&params, &x, &gain, &dy, &mut buffers.write(4), &mut buffers.write(5));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.rows) * u64::from(params.width);
    Cost { bytes: 4 * ((4 + u64::from(params.accumulate)) * count + u64::from(params.width)), operations: 11 * count }
}

/// Where row `r` begins in a buffer.
fn first(params: &Params, r: u32, stride: u32, offset: u32) -> usize {
    (r / params.heads * stride + offset + r % params.heads * params.width) as usize
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], gain: &[R], dy: &[R], dx: &mut [R], gain_terms: &mut [R]) {
    let width = params.width as usize;
    let mean = |sum: R| sum / R::real(width as f64);
    for r in 0..params.rows {
        let x_first = first(params, r, params.x_stride, params.x_offset);
        let dy_first = first(params, r, params.dy_stride, params.dy_offset);
        let dx_first = first(params, r, params.dx_stride, params.dx_offset);
        let (mut squares, mut products) = (R::default(), R::default());
        for i in 0..width {
            squares += x[x_first + i] * x[x_first + i];
            products += dy[dy_first + i] * gain[i] * x[x_first + i];
        }
        let scale = R::real(1.0) / (mean(squares) + R::real(f64::from(params.epsilon))).sqrt();
        let pull = mean(products) * scale * scale;
        for i in 0..width {
            let (value, delta) = (x[x_first + i], dy[dy_first + i]);
            let result = scale * (delta * gain[i] - value * pull);
            gain_terms[r as usize * width + i] = delta * value * scale;
            dx[dx_first + i] = if params.accumulate == 1 { dx[dx_first + i] + result } else { result };
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], gain: &[f32], dy: &[f32], dx: &mut [f32], gain_terms: &mut [f32]) {
    let (rows, width) = (params.rows as usize, params.width as usize);
    let window = |r: usize, stride, offset| {
        let first = first(params, r as u32, stride, offset);
        first..first + width
    };
    let scale_of = |x: &[f32]| {
        let squares: f64 = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        (1.0 / (squares / width as f64 + f64::from(params.epsilon)).sqrt()) as f32
    };
    for_rows(
        rows,
        gain_terms,
        |r| r * width,
        width,
        |r, terms| {
            let x = &x[window(r, params.x_stride, params.x_offset)];
            let dy = &dy[window(r, params.dy_stride, params.dy_offset)];
            let scale = scale_of(x);
            for ((term, x), dy) in terms.iter_mut().zip(x).zip(dy) {
                *term = dy * x * scale;
            }
        },
    );
    let place = |r: usize| first(params, r as u32, params.dx_stride, params.dx_offset);
    for_rows(rows, dx, place, width, |r, dx| {
        let x = &x[window(r, params.x_stride, params.x_offset)];
        let dy = &dy[window(r, params.dy_stride, params.dy_offset)];
        let scale = scale_of(x);
        let products: f64 = x.iter().zip(dy).zip(gain).map(|((x, dy), g)| f64::from(dy * g) * f64::from(*x)).sum();
        let pull = (products / width as f64) as f32 * scale * scale;
        let accumulate = params.accumulate == 1;
        for (((dx, x), dy), gain) in dx.iter_mut().zip(x).zip(dy).zip(gain) {
            let result = scale * (dy * gain - x * pull);
            *dx = if accumulate { *dx + result } else { result };
        }
    });
}
