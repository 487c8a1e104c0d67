//! A norm in a stage: forward, and backward with its sites handed to the sink.

use super::parameters::Norm;
use super::sink::{Context, Sink, VectorSite};
use super::weights::StageWeights;
use crate::Result;
use crate::device::{Buffer, Lease};
use crate::kernels::Window;
use crate::kernels::norm::{layer_backward, layer_forward, rms_backward, rms_forward};

/// `y = norm(x)`, for each of `heads` groups of the norm's width.
///
/// # Errors
/// When the device failed.
pub fn forward(
    ctx: &Context<'_>,
    norm: &Norm,
    heads: usize,
    weights: &StageWeights,
    x: Window<'_>,
    y: Window<'_>,
) -> Result<()> {
    let gain = weights.get(norm.gain)?.vector();
    match norm.bias {
        Some(bias) => {
            let bias = weights.get(bias)?.vector();
            layer_forward::run(ctx.device, ctx.tokens(), norm.width, norm.epsilon, x, gain, bias, y)
        }
        None => rms_forward::run(ctx.device, ctx.tokens(), heads, norm.width, norm.epsilon, x, gain, y),
    }
}

/// `norm(x)` of whole rows, as a scratch buffer of its own.
///
/// # Errors
/// When the device failed.
pub fn normed(ctx: &Context<'_>, norm: &Norm, weights: &StageWeights, x: &Buffer) -> Result<Lease> {
    let normed = ctx.rows(norm.width)?;
    forward(ctx, norm, 1, weights, Window::all(x, norm.width), Window::all(&normed, norm.width))?;
    Ok(normed)
}

/// `dx = dnorm(x)ᵀ dy` (or `dx += ...`), and the norm's sites.
///
/// # Errors
/// When the device failed.
pub fn backward(
    ctx: &Context<'_>,
    norm: &Norm,
    heads: usize,
    weights: &StageWeights,
    x: Window<'_>,
    dy: Window<'_>,
    dx: Window<'_>,
    accumulate: bool,
    sink: &mut dyn Sink,
) -> Result<()> {
    let gain = weights.get(norm.gain)?.vector();
    let terms = ctx.rows(heads * norm.width)?;
    let (device, tokens, width, epsilon) = (ctx.device, ctx.tokens(), norm.width, norm.epsilon);
    match norm.bias {
        Some(_) => layer_backward::run(device, tokens, width, epsilon, x, gain, dy, dx, accumulate, &terms)?,
        None => rms_backward::run(device, tokens, heads, width, epsilon, x, gain, dy, dx, accumulate, &terms)?,
    }
    if sink.wants(norm.gain) {
        let terms = Window::all(&terms, width);
        sink.vector(ctx, &VectorSite { parameter: norm.gain, rows_per_token: heads, width, terms })?;
    }
    match norm.bias {
        Some(bias) if sink.wants(bias) => {
            sink.vector(ctx, &VectorSite { parameter: bias, rows_per_token: 1, width, terms: dy })
        }
        _ => Ok(()),
    }
}
