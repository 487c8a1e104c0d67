//! A group at the last stage: loss and its gradient, a part of the vocabulary at a time. Where the whole head fits in one
//! visit its logits are computed once; otherwise once for the log-sum-exp and once more for the gradient.

use super::activations::Shelf;
use super::group::{Group, stored, wanted};
use super::loader::{Queue, Visit};
use super::pass::{Labels, SampleLoss};
use super::plan::{table_parts, whole};
use crate::device::{Buffer, Download};
use crate::kernels::Window;
use crate::kernels::embedding::RowIndex;
use crate::kernels::loss::{NO_TARGET, initial_best, initial_state, nll};
use crate::model::Stage;
use crate::model::batch::Batch;
use crate::model::head::{self, Fold};
use crate::model::norm;
use crate::model::parameters::HeadStage;
use crate::model::sink::{Context, Part, Sink};
use crate::model::weights::StageWeights;
use crate::{Error, Result};

/// The running folds of a chunk, on the host between visits, or on their way there.
pub(super) struct Folded {
    state: Download<f32>,
    best: Download<u32>,
}

fn stage<'a>(group: &'a Group<'_>) -> Result<&'a HeadStage> {
    match group.model.stages.last() {
        Some(Stage::Head(stage)) => Ok(stage),
        _ => Err(Error::Device("the last stage is no head".into())),
    }
}

/// The final norm's parameters.
pub(super) fn norm_parts(group: &Group<'_>) -> Visit {
    let Ok(stage) = stage(group) else { return Vec::new() };
    let ids = [Some(stage.norm.gain), stage.norm.bias].into_iter().flatten();
    ids.map(|id| whole(group.model, id, group.number as u32)).collect()
}

fn table(group: &Group<'_>) -> Result<Vec<Part>> {
    let weight = stage(group)?.weight;
    Ok(table_parts(weight, group.model, group.plan.table_rows, group.number as u32, false))
}

/// The visits of a head in parts: once for the folds, once more for the gradient; or a single one.
pub(super) fn visits(group: &Group<'_>) -> Vec<Visit> {
    let parts = table(group).unwrap_or_default();
    let visit = |part: &Part| norm_parts(group).into_iter().chain([part.clone()]).collect::<Visit>();
    let once: Vec<Visit> = parts.iter().map(visit).collect();
    if parts.len() > 1 { once.iter().chain(&once).cloned().collect() } else { once }
}

/// The folds of every chunk over the whole vocabulary; nothing else is wanted.
pub(super) fn losses(group: &Group<'_>, queue: &mut Queue<'_>, input: &Shelf) -> Result<Vec<Folded>> {
    let mut folded = start(group);
    fold_all(group, queue, input, &mut folded, Labels::Data)?;
    Ok(folded)
}

fn start(group: &Group<'_>) -> Vec<Folded> {
    let start =
        |tokens| Folded { state: Download::here(initial_state(tokens)), best: Download::here(initial_best(tokens)) };
    group.chunks.iter().map(|chunk| start(chunk.tokens())).collect()
}

/// Folds every part of the head for every chunk.
fn fold_all(
    group: &Group<'_>,
    queue: &mut Queue<'_>,
    input: &Shelf,
    folded: &mut Vec<Folded>,
    labels: Labels,
) -> Result<()> {
    for _ in table(group)? {
        let weights = queue.next()?;
        let _span = group.device.span(|| format!("loss at {}", group.stage_name(group.model.stages.len() - 1)));
        let before = std::mem::take(folded);
        for (chunk, before) in before.into_iter().enumerate() {
            let batch = group.batch(chunk)?;
            let ctx = group.context(&batch);
            let x = stored(input, group.device, chunk)?;
            let normed = head::normed(&ctx, stage(group)?, &weights, &x)?;
            let running = Running::upload(&ctx, before)?;
            for (first_row, slice) in weights.get(stage(group)?.weight)?.matrices() {
                let logits = head::logits(&ctx, group.model.config.hidden, &normed, slice)?;
                running.fold(&ctx, &batch.targets, first_row, slice.rows, &logits, labels)?;
            }
            folded.push(running.download(&ctx)?);
        }
        group.device.submit()?;
    }
    Ok(())
}

/// A chunk's folds on the device.
struct Running {
    state: Buffer,
    best: Buffer,
}

impl Running {
    fn upload(ctx: &Context<'_>, folded: Folded) -> Result<Self> {
        let (state, best) = (folded.state.finish()?, folded.best.finish()?);
        Ok(Running { state: ctx.device.upload_new(&state)?, best: ctx.device.upload_new(&best)? })
    }

    fn fold(
        &self,
        ctx: &Context<'_>,
        targets: &Buffer,
        first_row: usize,
        rows: usize,
        logits: &Buffer,
        labels: Labels,
    ) -> Result<()> {
        head::fold(ctx, first_row, rows, logits, &Fold::Loss { targets, state: &self.state })?;
        match labels {
            Labels::Data => Ok(()),
            Labels::Model { seed } => {
                head::fold(ctx, first_row, rows, logits, &Fold::Sample { seed, best: &self.best })
            }
        }
    }

    fn download(&self, ctx: &Context<'_>) -> Result<Folded> {
        let tokens = ctx.tokens();
        let (state, best) = (&self.state, &self.best);
        Ok(Folded { state: ctx.device.read_later(state, 3 * tokens)?, best: ctx.device.read_later(best, 2 * tokens)? })
    }

    /// The targets of backward: the data's, or those drawn from the model at the same positions.
    fn targets(&self, ctx: &Context<'_>, labels: Labels) -> Result<Buffer> {
        if labels == Labels::Data {
            return Ok(ctx.batch.targets.clone());
        }
        let best: Vec<u32> = ctx.device.read(&self.best, 2 * ctx.tokens())?;
        let targets = ctx.batch.chunk.targets.iter().zip(best.chunks(2));
        let drawn: Vec<u32> = targets.map(|(t, best)| if *t == NO_TARGET { NO_TARGET } else { best[1] }).collect();
        ctx.device.upload_new(&drawn)
    }
}

/// Losses of the data's targets, sample by sample.
pub(super) fn collect(group: &Group<'_>, folded: Vec<Folded>, losses: &mut Vec<SampleLoss>) -> Result<()> {
    for (chunk, folded) in group.chunks.iter().zip(folded) {
        let state = folded.state.finish()?;
        for ends in chunk.samples.windows(2) {
            let tokens = (ends[0] as usize..ends[1] as usize).filter(|t| chunk.targets[*t] != NO_TARGET);
            let loss = |t: usize| nll(&[state[3 * t], state[3 * t + 1], state[3 * t + 2]]) as f32;
            losses.push(SampleLoss { tokens: tokens.map(loss).collect() });
        }
    }
    Ok(())
}

/// Loss, its gradient at the last stage's input into `deltas`, and the stage's sites to `sink`. Returns the chunks' folds.
pub(super) fn gradients(
    group: &Group<'_>,
    queue: &mut Queue<'_>,
    input: &Shelf,
    deltas: &mut Shelf,
    head_rows: &mut Shelf,
    sink: &mut dyn Sink,
) -> Result<Vec<Folded>> {
    let mut folded = start(group);
    let parts = table(group)?;
    let single = parts.len() == 1;
    if !single {
        fold_all(group, queue, input, &mut folded, group.labels)?;
    }
    for part in parts {
        let weights = queue.next()?;
        let _span = group.device.span(|| format!("backward of {}", group.stage_name(group.model.stages.len() - 1)));
        sink.begin(group.device, &wanted(sink, vec![part]))?;
        let before = std::mem::take(&mut folded);
        for (chunk, before) in before.into_iter().enumerate() {
            let batch = group.batch(chunk)?;
            folded.push(part_backward(group, &batch, chunk, &weights, input, single, before, deltas, head_rows, sink)?);
        }
        sink.end(group.device)?;
    }
    let weights = queue.next()?;
    sink.begin(group.device, &wanted(sink, norm_parts(group)))?;
    for chunk in 0..group.chunks.len() {
        norm_backward(group, chunk, &weights, input, deltas, sink)?;
    }
    sink.end(group.device)?;
    Ok(folded)
}

/// One chunk at one part of the head. `deltas` holds the gradient at the norm's output as far as the parts have come. Returns
/// the chunk's folds.
fn part_backward(
    group: &Group<'_>,
    batch: &Batch,
    chunk: usize,
    weights: &StageWeights,
    input: &Shelf,
    single: bool,
    folded: Folded,
    deltas: &mut Shelf,
    head_rows: &mut Shelf,
    sink: &mut dyn Sink,
) -> Result<Folded> {
    let (stage, device, width) = (stage(group)?, group.device, group.model.config.hidden);
    let ctx = group.context(batch);
    let x = stored(input, device, chunk)?;
    let normed = head::normed(&ctx, stage, weights, &x)?;
    let running = Running::upload(&ctx, folded)?;
    let slices: Vec<_> = weights.get(stage.weight)?.matrices().collect();
    let fresh = |shelf: &Shelf, floats| match shelf.get(device, chunk)? {
        Some(held) => Ok(held),
        None => shelf.fresh(device, floats),
    };
    let tied = group.model.config.tied && sink.wants(stage.weight);
    let index = if tied { Some(RowIndex::new(device, &batch.chunk.units, &batch.chunk.ids)?) } else { None };
    let entries = index.as_ref().map_or(0, RowIndex::entries);
    let rows = if tied { Some(fresh(head_rows, entries * width)?) } else { None };
    let d_normed = fresh(deltas, ctx.tokens() * width)?;

    // Logits of one slice at a time: with several slices in this visit, the folds come first here as well.
    let one = single && slices.len() == 1;
    if single && !one {
        for (first_row, slice) in &slices {
            let logits = head::logits(&ctx, width, &normed, *slice)?;
            running.fold(&ctx, &batch.targets, *first_row, slice.rows, &logits, group.labels)?;
        }
    }
    for (first_row, slice) in slices {
        let logits = head::logits(&ctx, width, &normed, slice)?;
        if one {
            running.fold(&ctx, &batch.targets, first_row, slice.rows, &logits, group.labels)?;
        }
        let targets = running.targets(&ctx, group.labels)?;
        let tied = index.as_ref().zip(rows.as_deref());
        let loss = (&targets, &running.state);
        head::backward(&ctx, stage, (first_row, slice), &normed, &logits, loss, &d_normed, tied, sink)?;
    }
    let folded = running.download(&ctx)?;
    deltas.put(device, chunk, d_normed, ctx.tokens() * width)?;
    if let Some(rows) = rows {
        head_rows.put(device, chunk, rows, entries * width)?;
    }
    Ok(folded)
}

/// Turns the gradient at the norm's output into that at the stage's input.
fn norm_backward(
    group: &Group<'_>,
    chunk: usize,
    weights: &StageWeights,
    input: &Shelf,
    deltas: &mut Shelf,
    sink: &mut dyn Sink,
) -> Result<()> {
    let (stage, device, width) = (stage(group)?, group.device, group.model.config.hidden);
    let batch = group.batch(chunk)?;
    let ctx = group.context(&batch);
    let floats = ctx.tokens() * width;
    let x = stored(input, device, chunk)?;
    let d_normed = stored(deltas, device, chunk)?;
    let delta = deltas.fresh(device, floats)?;
    let [x, dy, dx] = [&*x, &*d_normed, &*delta].map(|buffer| Window::all(buffer, width));
    norm::backward(&ctx, &stage.norm, 1, weights, x, dy, dx, false, sink)?;
    deltas.put(device, chunk, delta, floats)
}
