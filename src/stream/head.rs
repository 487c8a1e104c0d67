//! A group at the last stage: loss and its gradient, a part of the vocabulary at a time. Where the whole head fits in one
//! visit its logits are computed once; otherwise once for the log-sum-exp and once more for the gradient.

use std::ops::Range;

use super::activations::Shelf;
use super::group::{Group, stored, wanted};
use super::loader::{Queue, Visit};
use super::objective::{Objective, OldStates};
use super::plan::{table_parts, whole};
use super::terms::{Labels, SampleLoss};
use crate::device::{Buffer, Download, Lease};
use crate::kernels::embedding::RowIndex;
use crate::kernels::loss::{NO_TARGET, initial_best, initial_state, logits_grad, nll};
use crate::kernels::{Matrix, Window};
use crate::model::Stage;
use crate::model::batch::{Batch, Chunk};
use crate::model::head::{self, Fold, Loss};
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

/// The last stage.
pub(super) fn stage<'a>(group: &'a Group<'_>) -> Result<&'a HeadStage> {
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

/// The head's parts, each brought in by a visit of its own.
pub(super) fn table(group: &Group<'_>) -> Result<Vec<Part>> {
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

/// What the distributions at every position are made of.
pub(super) fn states(
    group: &Group<'_>,
    queue: &mut Queue<'_>,
    input: &Shelf,
    states: &mut Vec<OldStates>,
) -> Result<()> {
    let width = group.model.config.hidden;
    let mut folded = start(group);
    fold_all(group, queue, input, &mut folded, Labels::Data)?;
    for (number, (chunk, folded)) in group.chunks.iter().zip(folded).enumerate() {
        let (hidden, folds) = (input.later(group.device, number)?.finish()?, folded.state.finish()?);
        states.extend((0..samples(chunk)).map(|sample| {
            let Range { start, end } = span(chunk, sample);
            OldStates { hidden: hidden[start * width..end * width].to_vec(), folds: folds[3 * start..3 * end].to_vec() }
        }));
    }
    Ok(())
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
                let fold = Fold::Sample { seed, temperature: 1.0, best: &self.best };
                head::fold(ctx, first_row, rows, logits, &fold)
            }
        }
    }

    fn download(&self, ctx: &Context<'_>) -> Result<Folded> {
        let tokens = ctx.tokens();
        let (state, best) = (&self.state, &self.best);
        Ok(Folded { state: ctx.device.read_later(state, 3 * tokens)?, best: ctx.device.read_later(best, 2 * tokens)? })
    }

    /// The weights of backward: each target's own times the slope of its sample's loss. The folds are complete.
    fn slopes(&self, ctx: &Context<'_>, objective: &dyn Objective, first_sample: usize) -> Result<Buffer> {
        if objective.has_unit_slope() {
            return Ok(ctx.batch.weights.clone());
        }
        let chunk = &ctx.batch.chunk;
        let state: Vec<f32> = ctx.device.read(&self.state, 3 * ctx.tokens())?;
        let mut weights = chunk.weights.clone();
        for sample in 0..samples(chunk) {
            let slope = objective.term(first_sample + sample, &sample_loss(chunk, sample, &state)).slope;
            weights[span(chunk, sample)].iter_mut().for_each(|weight| *weight = (f64::from(*weight) * slope) as f32);
        }
        ctx.device.upload_new(&weights)
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
        losses.extend((0..samples(chunk)).map(|sample| sample_loss(chunk, sample, &state)));
    }
    Ok(())
}

/// How many samples a chunk has.
pub(super) fn samples(chunk: &Chunk) -> usize {
    chunk.samples.len() - 1
}

/// The tokens of a chunk's sample.
pub(super) fn span(chunk: &Chunk, sample: usize) -> Range<usize> {
    chunk.samples[sample] as usize..chunk.samples[sample + 1] as usize
}

fn sample_loss(chunk: &Chunk, sample: usize, state: &[f32]) -> SampleLoss {
    let tokens = span(chunk, sample).filter(|t| chunk.targets[*t] != NO_TARGET);
    SampleLoss { tokens: tokens.map(|t| nll(&[state[3 * t], state[3 * t + 1], state[3 * t + 2]]) as f32).collect() }
}

/// Loss, its gradient at the last stage's input into `deltas`, and the stage's sites to `sink`. `first_sample`: the number of
/// the group's first one in the pass. Returns the chunks' folds.
pub(super) fn gradients(
    group: &Group<'_>,
    queue: &mut Queue<'_>,
    input: &Shelf,
    deltas: &mut Shelf,
    head_rows: &mut Shelf,
    sink: &mut dyn Sink,
    first_sample: usize,
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
        let mut first_sample = first_sample;
        for (chunk, before) in before.into_iter().enumerate() {
            let batch = group.batch(chunk)?;
            let place = (chunk, first_sample);
            folded.push(part_backward(group, &batch, place, &weights, input, single, before, deltas, head_rows, sink)?);
            first_sample += samples(&batch.chunk);
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

/// One chunk, with its first sample's number, at one part of the head. `deltas` holds the gradient at the norm's output as far
/// as the parts have come. Returns the chunk's folds.
fn part_backward(
    group: &Group<'_>,
    batch: &Batch,
    (chunk, first_sample): (usize, usize),
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
    let old = Old::of(&ctx, group, stage, weights, first_sample)?;
    let mut slopes = None;
    for (first_row, slice) in slices {
        let logits = head::logits(&ctx, width, &normed, slice)?;
        if one {
            running.fold(&ctx, &batch.targets, first_row, slice.rows, &logits, group.labels)?;
        }
        let targets = match &old {
            Some(old) => old.targets.clone(),
            None => running.targets(&ctx, group.labels)?,
        };
        let tied = index.as_ref().zip(rows.as_deref());
        let slopes = match &slopes {
            Some(slopes) => slopes,
            None => slopes.insert(running.slopes(&ctx, group.objective, first_sample)?),
        };
        let (kind, state) = (group.objective.kind(), &running.state);
        let mut loss = Loss { kind, targets: &targets, weights: slopes, state, soft: None };
        let soft =
            old.as_ref().map(|old| old.soft(&ctx, group.objective, first_sample, slopes, width, (first_row, slice)));
        let soft = soft.transpose()?;
        loss.soft = soft.as_deref();
        head::backward(&ctx, stage, (first_row, slice), &normed, &logits, loss, &d_normed, tied, sink)?;
    }
    let folded = running.download(&ctx)?;
    deltas.put(device, chunk, d_normed, ctx.tokens() * width)?;
    if let Some(rows) = rows {
        head_rows.put(device, chunk, rows, entries * width)?;
    }
    Ok(folded)
}

/// The old model's part in a chunk of which samples are to stay close to it.
struct Old {
    normed: Lease,
    folds: Buffer,
    /// The targets of the others; these samples have none.
    targets: Buffer,
}

impl Old {
    /// None where no sample of the chunk has states of the old model.
    fn of(
        ctx: &Context<'_>,
        group: &Group<'_>,
        stage: &HeadStage,
        weights: &StageWeights,
        first_sample: usize,
    ) -> Result<Option<Self>> {
        let (chunk, width) = (&ctx.batch.chunk, group.model.config.hidden);
        let with_states = |sample: usize| Some((span(chunk, sample), group.objective.old(first_sample + sample)?));
        let states: Vec<_> = (0..samples(chunk)).filter_map(with_states).collect();
        if states.is_empty() {
            return Ok(None);
        }
        let (mut hidden, mut folds) = (vec![0.0; ctx.tokens() * width], vec![1.0; 3 * ctx.tokens()]);
        let mut targets = chunk.targets.clone();
        for (span, old) in states {
            if old.hidden.len() != span.len() * width || old.folds.len() != 3 * span.len() {
                return Err(Error::argument("an old model's states are not those of the sample"));
            }
            hidden[span.start * width..span.end * width].copy_from_slice(&old.hidden);
            folds[3 * span.start..3 * span.end].copy_from_slice(&old.folds);
            targets[span].fill(NO_TARGET);
        }
        let hidden = ctx.device.upload_new(&hidden)?;
        let normed = head::normed(ctx, stage, weights, &hidden)?;
        Ok(Some(Old { normed, folds: ctx.device.upload_new(&folds)?, targets: ctx.device.upload_new(&targets)? }))
    }

    /// What these samples' targets take out of the gradient at a slice's logits: the old model's probabilities, weighted and
    /// negative, `[tokens, slice rows]`.
    fn soft(
        &self,
        ctx: &Context<'_>,
        objective: &dyn Objective,
        first_sample: usize,
        slopes: &Buffer,
        width: usize,
        (first_row, slice): (usize, Matrix<'_>),
    ) -> Result<Lease> {
        let chunk = &ctx.batch.chunk;
        let mut weights: Vec<f32> = ctx.device.read(slopes, ctx.tokens())?;
        for sample in 0..samples(chunk) {
            let keep = if objective.old(first_sample + sample).is_some() { -1.0 } else { 0.0 };
            weights[span(chunk, sample)].iter_mut().for_each(|weight| *weight *= keep);
        }
        let weights = ctx.device.upload_new(&weights)?;
        let none = ctx.device.upload_new(&vec![NO_TARGET; ctx.tokens()])?;
        let logits = head::logits(ctx, width, &self.normed, slice)?;
        logits_grad::run(ctx.device, ctx.tokens(), slice.rows, first_row, &none, &weights, &self.folds, &logits)?;
        Ok(logits)
    }
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
