//! A linear layer in a stage: forward, input gradient, and handing its site to the sink.

use super::parameters::{Layout, Linear};
use super::sink::{Context, MatrixSite, Sink, VectorSite};
use super::weights::StageWeights;
use crate::Result;
use crate::kernels::Window;
use crate::kernels::elementwise::broadcast_rows;
use crate::kernels::linear::{matmul_nn, matmul_nt};

/// `y = x Wᵀ + b`.
///
/// # Errors
/// When the device failed.
pub fn forward(ctx: &Context<'_>, linear: &Linear, weights: &StageWeights, x: Window<'_>, y: Window<'_>) -> Result<()> {
    if let Some(bias) = linear.bias {
        broadcast_rows::run(ctx.device, ctx.tokens(), linear.outputs, weights.get(bias)?.vector(), y)?;
    }
    product(ctx, linear, weights, linear.layout == Layout::OutIn, x, y, linear.bias.is_some())
}

/// `dx = dy W`, or `dx += dy W`.
///
/// # Errors
/// When the device failed.
pub fn input_grad(
    ctx: &Context<'_>,
    linear: &Linear,
    weights: &StageWeights,
    dy: Window<'_>,
    dx: Window<'_>,
    accumulate: bool,
) -> Result<()> {
    product(ctx, linear, weights, linear.layout == Layout::InOut, dy, dx, accumulate)
}

/// The product with the stored matrix, slice by slice: with its transpose, where slices of rows give slices of the
/// result's columns, or with itself, where they are summed in order.
fn product(
    ctx: &Context<'_>,
    linear: &Linear,
    weights: &StageWeights,
    transposed: bool,
    x: Window<'_>,
    y: Window<'_>,
    accumulate: bool,
) -> Result<()> {
    for (first_row, matrix) in weights.get(linear.weight)?.matrices() {
        if transposed {
            let y = Window::at(y.buffer, y.stride, y.offset + first_row);
            matmul_nt::run(ctx.device, ctx.tokens(), x, matrix, y, accumulate)?;
        } else {
            let x = Window::at(x.buffer, x.stride, x.offset + first_row);
            matmul_nn::run(ctx.device, ctx.tokens(), x, matrix, y, accumulate || first_row > 0)?;
        }
    }
    Ok(())
}

/// Hands over activation `x` and delta `dy`.
///
/// # Errors
/// When the device failed.
pub fn hand_over(ctx: &Context<'_>, linear: &Linear, x: Window<'_>, dy: Window<'_>, sink: &mut dyn Sink) -> Result<()> {
    let (rows, columns, left, right) = match linear.layout {
        Layout::OutIn => (linear.outputs, linear.inputs, dy, x),
        Layout::InOut => (linear.inputs, linear.outputs, x, dy),
    };
    if sink.wants(linear.weight) {
        sink.matrix(ctx, &MatrixSite { parameter: linear.weight, first_row: 0, rows, columns, left, right })?;
    }
    match linear.bias {
        Some(bias) if sink.wants(bias) => {
            sink.vector(ctx, &VectorSite { parameter: bias, rows_per_token: 1, width: linear.outputs, terms: dy })
        }
        _ => Ok(()),
    }
}
