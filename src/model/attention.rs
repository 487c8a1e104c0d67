//! The attention half of a layer: `y = x + output(attention(norm(x)))`.

use super::parameters::{AttentionStage, Linear};
use super::sink::{Context, Sink};
use super::weights::StageWeights;
use super::{linear, norm};
use crate::device::{Buffer, Device, Lease};
use crate::kernels::Window;
use crate::kernels::attention::{self, key_value_grad, query_grad, rotary};
use crate::kernels::elementwise::add;
use crate::{Error, Result};

/// What forward computes on the way and backward needs again.
#[derive(Debug)]
pub struct Inner {
    normed: Lease,
    /// Queries and keys before their own norms, where the family has them.
    raw: Option<Lease>,
    qkv: Lease,
    mixed: Lease,
    log_sums: Lease,
}

/// The part of [`Inner`] that is worth keeping for backward: all but the norm's output, which is made again in a moment.
#[derive(Debug)]
pub struct Kept {
    raw: Option<Lease>,
    qkv: Lease,
    mixed: Lease,
    log_sums: Lease,
}

impl Inner {
    /// Lets go what [`restore`] makes again.
    pub fn kept(self) -> Kept {
        let Inner { raw, qkv, mixed, log_sums, .. } = self;
        Kept { raw, qkv, mixed, log_sums }
    }
}

impl Inner {
    /// What the heads make their outputs of and put out: the joint queries, keys and values `[tokens, heads.qkv_width()]`, and
    /// the mixed values `[tokens, heads.width()]` that the output projection takes.
    pub fn heads(&self) -> (&Buffer, &Buffer) {
        (&self.qkv, &self.mixed)
    }
}

/// All of [`Inner`] from what was kept of it.
///
/// # Errors
/// When the device failed.
pub fn restore(
    ctx: &Context<'_>,
    stage: &AttentionStage,
    weights: &StageWeights,
    x: &Buffer,
    Kept { raw, qkv, mixed, log_sums }: Kept,
) -> Result<Inner> {
    Ok(Inner { normed: norm::normed(ctx, &stage.norm, weights, x)?, raw, qkv, mixed, log_sums })
}

/// Floats per token that [`Kept`] holds.
pub fn kept_width(stage: &AttentionStage) -> usize {
    inner_width(stage) - stage.norm.width
}

/// Floats per token that [`Inner`] holds.
pub fn inner_width(stage: &AttentionStage) -> usize {
    let joint = stage.heads.qkv_width();
    let raw = if stage.head_norms.is_some() { joint } else { 0 };
    stage.norm.width + raw + joint + stage.heads.width() + stage.heads.heads
}

/// Floats per token that backward needs beside [`Inner`], the stage's input and its delta.
pub fn backward_width(stage: &AttentionStage) -> usize {
    let (heads, width) = (stage.heads, stage.norm.width);
    let with_raw = if stage.head_norms.is_some() { heads.qkv_width() + heads.width() } else { 0 };
    heads.width() + heads.heads + heads.qkv_width() + with_raw + 2 * width
}

fn scale(stage: &AttentionStage) -> f32 {
    (1.0 / (stage.heads.head_dim as f64).sqrt()) as f32
}

fn rotate(ctx: &Context<'_>, stage: &AttentionStage, joint: &Buffer, inverse: bool) -> Result<()> {
    if !stage.rotary {
        return Ok(());
    }
    let table = ctx.rotary.ok_or_else(|| Error::Device("the rotary table is not on the device".into()))?;
    let (heads, stride) = (stage.heads, stage.heads.qkv_width());
    for (count, offset) in [(heads.heads, 0), (heads.kv_heads, heads.k_offset())] {
        let window = Window::at(joint, stride, offset);
        rotary::run(ctx.device, ctx.tokens(), count, heads.head_dim, table, &ctx.batch.positions, window, inverse)?;
    }
    Ok(())
}

/// Normalises, projects and rotates: the norm's output, the projections before their own norms, and what attention takes.
fn project(
    ctx: &Context<'_>,
    stage: &AttentionStage,
    weights: &StageWeights,
    x: &Buffer,
) -> Result<(Lease, Option<Lease>, Lease)> {
    let (heads, width, stride) = (stage.heads, stage.norm.width, stage.heads.qkv_width());
    let normed = norm::normed(ctx, &stage.norm, weights, x)?;
    let qkv = ctx.rows(stride)?;
    let raw = if stage.head_norms.is_some() { Some(ctx.rows(stride)?) } else { None };
    for (input, offset) in &stage.inputs {
        let target = match &raw {
            Some(raw) if *offset < heads.v_offset() => raw,
            _ => &qkv,
        };
        linear::forward(ctx, input, weights, Window::all(&normed, width), Window::at(target, stride, *offset))?;
    }
    if let (Some([q_norm, k_norm]), Some(raw)) = (&stage.head_norms, &raw) {
        for (head_norm, count, offset) in [(q_norm, heads.heads, 0), (k_norm, heads.kv_heads, heads.k_offset())] {
            let [from, to] = [raw, &qkv].map(|buffer| Window::at(buffer, stride, offset));
            norm::forward(ctx, head_norm, count, weights, from, to)?;
        }
    }
    rotate(ctx, stage, &qkv, false)?;
    Ok((normed, raw, qkv))
}

/// Everything up to the output projection.
///
/// # Errors
/// When the device failed.
pub fn inner(ctx: &Context<'_>, stage: &AttentionStage, weights: &StageWeights, x: &Buffer) -> Result<Inner> {
    let (normed, raw, qkv) = project(ctx, stage, weights, x)?;
    let heads = stage.heads;
    let (mixed, log_sums) = (ctx.rows(heads.width())?, ctx.rows(heads.heads)?);
    let tiles = ctx.batch.tiles();
    attention::forward::run(ctx.device, heads, scale(stage), ctx.tokens(), tiles, &qkv, &mixed, &log_sums)?;
    Ok(Inner { normed, raw, qkv, mixed, log_sums })
}

/// `y = x + output(mixed)`.
///
/// # Errors
/// When the device failed.
pub fn output(
    ctx: &Context<'_>,
    stage: &AttentionStage,
    weights: &StageWeights,
    x: &Buffer,
    inner: &Inner,
    y: &Buffer,
) -> Result<()> {
    finish(ctx, stage, weights, x, &inner.mixed, y)
}

fn finish(
    ctx: &Context<'_>,
    stage: &AttentionStage,
    weights: &StageWeights,
    x: &Buffer,
    mixed: &Buffer,
    y: &Buffer,
) -> Result<()> {
    let width = stage.norm.width;
    linear::forward(ctx, &stage.output, weights, Window::all(mixed, stage.heads.width()), Window::all(y, width))?;
    add::run(ctx.device, ctx.tokens() * width, x, y)
}

/// The stage's linear layers with their inputs.
pub fn sites<'a>(stage: &'a AttentionStage, inner: &'a Inner) -> impl Iterator<Item = (&'a Linear, Window<'a>)> {
    let inputs = stage.inputs.iter().map(|(linear, _)| (linear, Window::all(&inner.normed, stage.norm.width)));
    inputs.chain([(&stage.output, Window::all(&inner.mixed, stage.heads.width()))])
}

/// Turns the delta at the stage's output into that at its input, in place, and hands over the stage's sites.
///
/// # Errors
/// When the device failed.
pub fn backward(
    ctx: &Context<'_>,
    stage: &AttentionStage,
    weights: &StageWeights,
    x: &Buffer,
    inner: &Inner,
    delta: &Buffer,
    sink: &mut dyn Sink,
) -> Result<()> {
    let (heads, width, stride) = (stage.heads, stage.norm.width, stage.heads.qkv_width());
    let delta = Window::all(delta, width);
    let d_mixed = ctx.rows(heads.width())?;
    linear::hand_over(ctx, &stage.output, Window::all(&inner.mixed, heads.width()), delta, sink)?;
    linear::input_grad(ctx, &stage.output, weights, delta, Window::all(&d_mixed, heads.width()), false)?;

    let (row_dots, d_qkv) = (ctx.rows(heads.heads)?, ctx.rows(stride)?);
    let (device, tokens, tiles) = (ctx.device, ctx.tokens(), ctx.batch.tiles());
    let Inner { qkv, mixed, log_sums, .. } = inner;
    query_grad::run(device, heads, scale(stage), tokens, tiles, qkv, mixed, &d_mixed, log_sums, &row_dots, &d_qkv)?;
    key_value_grad::run(device, heads, scale(stage), tokens, tiles, qkv, &d_mixed, log_sums, &row_dots, &d_qkv)?;
    rotate(ctx, stage, &d_qkv, true)?;

    let d_raw = match (&stage.head_norms, &inner.raw) {
        (Some([q_norm, k_norm]), Some(raw)) => {
            let d_raw = ctx.rows(stride)?;
            for (head_norm, count, offset) in [(q_norm, heads.heads, 0), (k_norm, heads.kv_heads, heads.k_offset())] {
                let [x, dy, dx] = [raw, &d_qkv, &d_raw].map(|buffer| Window::at(buffer, stride, offset));
                norm::backward(ctx, head_norm, count, weights, x, dy, dx, false, sink)?;
            }
            Some(d_raw)
        }
        _ => None,
    };
    let d_normed = ctx.rows(width)?;
    for (i, (input, offset)) in stage.inputs.iter().enumerate() {
        let source = match &d_raw {
            Some(d_raw) if *offset < heads.v_offset() => d_raw,
            _ => &d_qkv,
        };
        let dy = Window::at(source, stride, *offset);
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

/// Keys and values of the tokens so far, for decoding: `[sequences · capacity, kv_heads · head_dim]` each.
#[derive(Debug)]
pub struct Cache {
    keys: Buffer,
    values: Buffer,
    capacity: usize,
    width: usize,
}

impl Cache {
    /// Device bytes of a cache for `sequences` of at most `capacity` tokens.
    pub fn device_bytes(stage: &AttentionStage, sequences: usize, capacity: usize) -> u64 {
        2 * Cache::half_bytes(stage, sequences, capacity)
    }

    /// Device bytes of its keys, or of its values.
    pub fn half_bytes(stage: &AttentionStage, sequences: usize, capacity: usize) -> u64 {
        (sequences * capacity * stage.heads.kv_heads * stage.heads.head_dim * 4) as u64
    }

    /// An empty cache for `sequences` of at most `capacity` tokens.
    ///
    /// # Errors
    /// When the device has no room for it.
    pub fn new(device: &Device, stage: &AttentionStage, sequences: usize, capacity: usize) -> Result<Self> {
        let bytes = Cache::half_bytes(stage, sequences, capacity);
        let width = stage.heads.kv_heads * stage.heads.head_dim;
        Ok(Cache { keys: device.allocate(bytes)?, values: device.allocate(bytes)?, capacity, width })
    }

    /// Puts the first `tokens` tokens of sequence `from` in the place of sequence `to`.
    ///
    /// # Errors
    /// When the device failed.
    pub fn relocate(&self, device: &Device, from: usize, to: usize, tokens: usize) -> Result<()> {
        let offset = |sequence: usize| (sequence * self.capacity * self.width * 4) as u64;
        let mut bytes = vec![0; tokens * self.width * 4];
        for half in [&self.keys, &self.values] {
            device.download(half, offset(from), &mut bytes)?;
            device.upload(half, offset(to), &bytes)?;
        }
        Ok(())
    }
}

/// Runs prompts through the stage and remembers their keys and values. `slots` names the cache's row for every token.
///
/// # Errors
/// When the device failed.
pub fn prefill(
    ctx: &Context<'_>,
    stage: &AttentionStage,
    weights: &StageWeights,
    x: &Buffer,
    cache: &Cache,
    slots: &Buffer,
    y: &Buffer,
) -> Result<()> {
    let inner = inner(ctx, stage, weights, x)?;
    let (keys, values) = (&cache.keys, &cache.values);
    attention::cache_append::run(ctx.device, stage.heads, ctx.tokens(), &inner.qkv, slots, keys, values)?;
    output(ctx, stage, weights, x, &inner, y)
}

/// Runs one more token of every sequence through the stage. `lengths` counts each sequence's tokens, the new one included.
///
/// # Errors
/// When the device failed.
pub fn step(
    ctx: &Context<'_>,
    stage: &AttentionStage,
    weights: &StageWeights,
    x: &Buffer,
    cache: &Cache,
    slots: &Buffer,
    lengths: attention::decode::Lengths<'_>,
    y: &Buffer,
) -> Result<()> {
    let (_, _, qkv) = project(ctx, stage, weights, x)?;
    let (heads, tokens) = (stage.heads, ctx.tokens());
    let (keys, values) = (&cache.keys, &cache.values);
    attention::cache_append::run(ctx.device, heads, tokens, &qkv, slots, keys, values)?;
    let mixed = ctx.rows(heads.width())?;
    let capacity = cache.capacity;
    attention::decode::run(ctx.device, heads, scale(stage), tokens, capacity, &qkv, lengths, keys, values, &mixed)?;
    finish(ctx, stage, weights, x, &mixed, y)
}
