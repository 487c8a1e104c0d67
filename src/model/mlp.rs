//! The feed-forward half of a layer: `y = x + down(act(gate(n)) ⊙ up(n))`, or `x + down(act(up(n)))`, with `n = norm(x)`.

use super::parameters::{Linear, MlpStage};
use super::sink::{Context, Sink};
use super::weights::StageWeights;
use super::{linear, norm};
use crate::Result;
use crate::device::{Buffer, Lease};
use crate::kernels::Window;
use crate::kernels::activation::{self, Activation};
use crate::kernels::elementwise::add;

/// What forward computes on the way and backward needs again.
#[derive(Debug)]
pub struct Inner {
    normed: Lease,
    /// Before the activation: gate and up side by side, or up alone.
    before: Lease,
    active: Lease,
}

/// The part of [`Inner`] that is worth keeping for backward: the products. Norm and activation are made again in a moment.
#[derive(Debug)]
pub struct Kept {
    before: Lease,
}

impl Inner {
    /// Lets go what [`restore`] makes again.
    pub fn kept(self) -> Kept {
        Kept { before: self.before }
    }
}

fn before_width(stage: &MlpStage) -> usize {
    stage.up.outputs * if stage.gate.is_some() { 2 } else { 1 }
}

/// Floats per token that [`Inner`] holds.
pub fn inner_width(stage: &MlpStage) -> usize {
    stage.norm.width + before_width(stage) + stage.up.outputs
}

/// Floats per token that [`Kept`] holds.
pub fn kept_width(stage: &MlpStage) -> usize {
    before_width(stage)
}

/// Floats per token that backward needs beside [`Inner`], the stage's input and its delta.
pub fn backward_width(stage: &MlpStage) -> usize {
    stage.up.outputs + before_width(stage) + 2 * stage.norm.width
}

/// The projections from the norm's output, with the column of the joint row that each starts at.
fn inputs(stage: &MlpStage) -> impl Iterator<Item = (&Linear, usize)> {
    let up_offset = if stage.gate.is_some() { stage.up.outputs } else { 0 };
    stage.gate.iter().map(|gate| (gate, 0)).chain([(&stage.up, up_offset)])
}

/// Everything up to the projection down.
///
/// # Errors
/// When the device failed.
pub fn inner(
    ctx: &Context<'_>,
    stage: &MlpStage,
    activation: Activation,
    weights: &StageWeights,
    x: &Buffer,
) -> Result<Inner> {
    let (width, stride) = (stage.norm.width, before_width(stage));
    let (normed, before) = (norm::normed(ctx, &stage.norm, weights, x)?, ctx.rows(stride)?);
    for (input, offset) in inputs(stage) {
        linear::forward(ctx, input, weights, Window::all(&normed, width), Window::at(&before, stride, offset))?;
    }
    let active = activate(ctx, stage, activation, &before)?;
    Ok(Inner { normed, before, active })
}

/// All of [`Inner`] from what was kept of it.
///
/// # Errors
/// When the device failed.
pub fn restore(
    ctx: &Context<'_>,
    stage: &MlpStage,
    activation: Activation,
    weights: &StageWeights,
    x: &Buffer,
    Kept { before }: Kept,
) -> Result<Inner> {
    let normed = norm::normed(ctx, &stage.norm, weights, x)?;
    let active = activate(ctx, stage, activation, &before)?;
    Ok(Inner { normed, before, active })
}

fn activate(ctx: &Context<'_>, stage: &MlpStage, activation: Activation, before: &Buffer) -> Result<Lease> {
    let wide = stage.up.outputs;
    let active = ctx.rows(wide)?;
    if stage.gate.is_some() {
        activation::gated_forward::run(ctx.device, activation, ctx.tokens(), wide, before, &active)?;
    } else {
        activation::forward::run(ctx.device, activation, ctx.tokens() * wide, before, &active)?;
    }
    Ok(active)
}

/// `y = x + down(active)`.
///
/// # Errors
/// When the device failed.
pub fn output(
    ctx: &Context<'_>,
    stage: &MlpStage,
    weights: &StageWeights,
    x: &Buffer,
    inner: &Inner,
    y: &Buffer,
) -> Result<()> {
    let (width, wide) = (stage.norm.width, stage.up.outputs);
    linear::forward(ctx, &stage.down, weights, Window::all(&inner.active, wide), Window::all(y, width))?;
    add::run(ctx.device, ctx.tokens() * width, x, y)
}

/// The stage's linear layers with their inputs.
pub fn sites<'a>(stage: &'a MlpStage, inner: &'a Inner) -> impl Iterator<Item = (&'a Linear, Window<'a>)> {
    let up = inputs(stage).map(|(linear, _)| (linear, Window::all(&inner.normed, stage.norm.width)));
    up.chain([(&stage.down, Window::all(&inner.active, stage.up.outputs))])
}

/// Turns the delta at the stage's output into that at its input, in place, and hands over the stage's sites.
///
/// # Errors
/// When the device failed.
pub fn backward(
    ctx: &Context<'_>,
    stage: &MlpStage,
    activation: Activation,
    weights: &StageWeights,
    x: &Buffer,
    inner: &Inner,
    delta: &Buffer,
    sink: &mut dyn Sink,
) -> Result<()> {
    let (width, wide, stride) = (stage.norm.width, stage.up.outputs, before_width(stage));
    let delta = Window::all(delta, width);
    let (d_active, d_before) = (ctx.rows(wide)?, ctx.rows(stride)?);
    linear::hand_over(ctx, &stage.down, Window::all(&inner.active, wide), delta, sink)?;
    linear::input_grad(ctx, &stage.down, weights, delta, Window::all(&d_active, wide), false)?;
    let (device, tokens, before) = (ctx.device, ctx.tokens(), &inner.before);
    if stage.gate.is_some() {
        activation::gated_backward::run(device, activation, tokens, wide, before, &d_active, &d_before)?;
    } else {
        activation::backward::run(device, activation, tokens * wide, before, &d_active, &d_before)?;
    }
    let d_normed = ctx.rows(width)?;
    for (i, (input, offset)) in inputs(stage).enumerate() {
        let dy = Window::at(&d_before, stride, offset);
        linear::hand_over(ctx, input, Window::all(&inner.normed, width), dy, sink)?;
        linear::input_grad(ctx, input, weights, dy, Window::all(&d_normed, width), i > 0)?;
    }
    norm::backward(
        ctx,
        &stage.norm,
        1,
        weights,
        Window::all(x, width),
        Window::all(&d_normed, width),
        delta,
        true,
        sink,
    )
}
