//! A group of samples through all stages: forward with every stage's input kept, then backward.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use super::activations::{Held, Shelf};
use super::head;
use super::intervention::Intervention;
use super::loader::{Loader, Queue, Visit};
use super::moments::{self, SampleMoments};
use super::notebook::Notebook;
use super::objective::{Objective, OldStates};
use super::observer::{Observer, Unobserved};
use super::plan::{Plan, table_parts, whole};
use super::terms::{Journal, Labels, Progress, ResumePoint, SampleLoss};
use crate::device::{Buffer, Device};
use crate::model::batch::{Batch, Chunk};
use crate::model::parameters::EmbeddingStage;
use crate::model::sink::{Context, Part, Sink};
use crate::model::weights::StageWeights;
use crate::model::{Model, Stage, attention, embedding, mlp};
use crate::{Error, Result};

/// A group, and all that its way through the model needs.
pub(super) struct Group<'a> {
    pub(super) device: &'a Device,
    pub(super) model: &'a Model,
    pub(super) loader: &'a Loader,
    pub(super) plan: &'a Plan,
    pub(super) rotary: Option<&'a Buffer>,
    pub(super) labels: Labels,
    pub(super) objective: &'a dyn Objective,
    /// What changes the forward. Backward does not know of it.
    pub(super) intervention: Option<&'a dyn Intervention>,
    pub(super) number: usize,
    pub(super) chunks: Vec<Chunk>,
    /// Those of them that are on the device.
    pub(super) batches: RefCell<HashMap<usize, Rc<Batch>>>,
    pub(super) progress: Progress<'a>,
}

/// What forward leaves for backward.
pub(super) struct Trace {
    /// For each stage but the first its input.
    pub(super) inputs: Vec<Shelf>,
    /// For each stage, for each chunk, what was kept of its inside.
    kept: Vec<Vec<Option<Kept>>>,
}

/// What a block's forward computes on the way.
enum Inner {
    Attention(attention::Inner),
    Mlp(mlp::Inner),
}

/// What is kept of it for backward.
enum Kept {
    Attention(attention::Kept),
    Mlp(mlp::Kept),
}

impl Inner {
    fn kept(self) -> Kept {
        match self {
            Inner::Attention(inner) => Kept::Attention(inner.kept()),
            Inner::Mlp(inner) => Kept::Mlp(inner.kept()),
        }
    }
}

impl Group<'_> {
    /// The losses of the group's samples.
    pub(super) fn losses(&mut self, losses: &mut Vec<SampleLoss>) -> Result<()> {
        let last = self.model.stages.len() - 1;
        let mut visits = self.forward_visits(last);
        visits.extend(self.head_visits());
        self.loader.run(&visits, |queue| {
            let trace = self.forward(queue, last, false, &mut Unobserved)?;
            let folded = head::losses(self, queue, &trace.inputs[last - 1])?;
            self.loader.rest(&head::table(self)?);
            head::collect(self, folded, losses)
        })
    }

    /// What the distributions at every position are made of, sample by sample.
    pub(super) fn states(&mut self, states: &mut Vec<OldStates>) -> Result<()> {
        let last = self.model.stages.len() - 1;
        let mut visits = self.forward_visits(last);
        visits.extend(self.head_visits());
        self.loader.run(&visits, |queue| {
            let trace = self.forward(queue, last, false, &mut Unobserved)?;
            head::states(self, queue, &trace.inputs[last - 1], states)
        })
    }

    /// How the log-probabilities lie at every target, sample by sample.
    pub(super) fn moments(&mut self, moments: &mut Vec<SampleMoments>) -> Result<()> {
        let last = self.model.stages.len() - 1;
        let mut visits = self.forward_visits(last);
        visits.extend(self.head_visits());
        self.loader.run(&visits, |queue| {
            let trace = self.forward(queue, last, false, &mut Unobserved)?;
            moments::moments(self, queue, &trace.inputs[last - 1], moments)
        })
    }

    /// Forward under the eyes of `observer`, as far as it wants to see.
    pub(super) fn observe(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let top = observer.last_stage() + 1;
        self.loader.run(&self.forward_visits(top), |queue| self.forward(queue, top, false, observer).map(drop))
    }

    /// Forward and backward, every gradient handed to `sink`.
    pub(super) fn gradients(
        &mut self,
        sink: &mut dyn Sink,
        journal: Option<&mut dyn Journal>,
        resume: Option<ResumePoint>,
        losses: &mut Vec<SampleLoss>,
    ) -> Result<()> {
        let last = self.model.stages.len() - 1;
        let top = resume.as_ref().map_or(last, |point| point.stage);
        let mut visits = self.forward_visits(top);
        if resume.is_none() {
            visits.extend(self.head_visits());
            visits.push(self.tail_visit());
        }
        visits.extend((1..top).rev().map(|stage| self.block_visit(stage)));
        self.loader.run(&visits, |queue| {
            let mut trace = self.forward(queue, top, true, &mut Unobserved)?;
            let (mut deltas, mut head_rows) = (self.shelf(), self.shelf());
            let first_sample = losses.len();
            let mut notebook = Notebook::new(journal, losses);
            match resume {
                None => {
                    let input = &trace.inputs[last - 1];
                    let folded = head::gradients(self, queue, input, &mut deltas, &mut head_rows, sink, first_sample)?;
                    self.loader.rest(&head::table(self)?);
                    notebook.visited(self, last, &deltas, &head_rows)?;
                    notebook.folded(folded);
                }
                Some(point) => {
                    for (shelf, saved) in [(&mut deltas, point.deltas), (&mut head_rows, point.head_rows)] {
                        for (i, values) in saved.iter().enumerate().filter(|(_, values)| !values.is_empty()) {
                            shelf.write(self.device, i, values)?;
                        }
                    }
                }
            }
            for stage in (1..top).rev() {
                let weights = queue.next()?;
                self.block_backward(stage, &weights, &mut trace, &mut deltas, sink)?;
                self.loader.rest(&self.block_visit(stage));
                notebook.visited(self, stage, &deltas, &head_rows)?;
                self.tick(2 * last - stage);
            }
            self.embedding_backward(&deltas, &head_rows, sink)?;
            notebook.visited(self, 0, &deltas, &head_rows)?;
            sink.settle(self.device)?;
            notebook.close(self)
        })?;
        self.tick(2 * last);
        Ok(())
    }

    pub(super) fn context<'c>(&'c self, batch: &'c Batch) -> Context<'c> {
        Context { device: self.device, batch, capacity: self.plan.capacity, rotary: self.rotary }
    }

    /// A chunk on the device, where it stays if the group's activations do.
    pub(super) fn batch(&self, chunk: usize) -> Result<Rc<Batch>> {
        let make = || Ok(Rc::new(Batch::new(self.device, self.chunks[chunk].clone())?));
        if !self.plan.activations_on_device {
            return make();
        }
        let mut batches = self.batches.borrow_mut();
        match batches.entry(chunk) {
            Entry::Occupied(there) => Ok(there.get().clone()),
            Entry::Vacant(place) => Ok(place.insert(make()?).clone()),
        }
    }

    pub(super) fn shelf(&self) -> Shelf {
        Shelf::new(self.plan.place(), self.chunks.len())
    }

    /// Tells the caller how far the group has come, in stages.
    pub(super) fn tick(&self, stages: usize) {
        let per_group = 2 * (self.model.stages.len() - 1) as u64;
        (self.progress)(self.number as u64 * per_group + stages as u64, self.plan.groups.len() as u64 * per_group);
    }

    /// What a stage is called in a recording.
    pub(super) fn stage_name(&self, stage: usize) -> String {
        self.model.name_of(&self.model.stages[stage].parameters())
    }

    fn embedding(&self) -> Result<&EmbeddingStage> {
        match &self.model.stages[0] {
            Stage::Embedding(stage) => Ok(stage),
            _ => Err(Error::Device("the first stage is no embedding".into())),
        }
    }

    fn forward_visits(&self, top: usize) -> Vec<Visit> {
        let Ok(stage) = self.embedding() else { return Vec::new() };
        let mut visits: Vec<Visit> = table_parts(stage.tokens, self.model, self.plan.table_rows, 0, false)
            .into_iter()
            .map(|part| vec![part])
            .collect();
        if let (Some(positions), Some(last)) = (stage.positions, visits.last_mut()) {
            last.push(whole(self.model, positions, 0));
        }
        visits.extend((1..top).map(|stage| self.block_visit(stage)));
        visits
    }

    fn block_visit(&self, stage: usize) -> Visit {
        self.model.stages[stage].parameters().into_iter().map(|id| whole(self.model, id, self.number as u32)).collect()
    }

    fn head_visits(&self) -> Vec<Visit> {
        head::visits(self)
    }

    fn tail_visit(&self) -> Visit {
        head::norm_parts(self)
    }

    /// Runs the stages below `top` and keeps every stage's input, or only the last one's.
    fn forward(&self, queue: &mut Queue<'_>, top: usize, keep: bool, observer: &mut dyn Observer) -> Result<Trace> {
        let width = self.model.config.hidden;
        let mut trace = Trace { inputs: Vec::new(), kept: Vec::new() };
        trace.inputs.push(self.embed(queue)?);
        trace.kept.push(Vec::new());
        for stage in 1..top {
            let weights = queue.next()?;
            let _span = self.device.span(|| format!("forward of {}", self.stage_name(stage)));
            let mut outputs = self.shelf();
            let mut kept = Vec::new();
            observer.begin(self.device, stage)?;
            for chunk in 0..self.chunks.len() {
                let batch = self.batch(chunk)?;
                let ctx = self.context(&batch);
                let x = stored(&trace.inputs[stage - 1], self.device, chunk)?;
                let y = outputs.fresh(self.device, ctx.tokens() * width)?;
                let inner = self.block_inner(&ctx, stage, &weights, &x)?;
                match (&self.model.stages[stage], &inner) {
                    (Stage::Attention(block), Inner::Attention(inner)) => {
                        if let Some(intervention) = self.intervention {
                            let (qkv, mixed) = inner.heads();
                            intervention.heads(&ctx, stage, block.heads, qkv, mixed)?;
                        }
                        attention::output(&ctx, block, &weights, &x, inner, &y)?;
                    }
                    (Stage::Mlp(block), Inner::Mlp(inner)) => mlp::output(&ctx, block, &weights, &x, inner, &y)?,
                    _ => return Err(misplaced(stage)),
                }
                self.show(&ctx, stage, &inner, observer)?;
                observer.output(&ctx, stage, &y)?;
                kept.push((keep && self.plan.keep_inner).then(|| inner.kept()));
                outputs.put(self.device, chunk, y, ctx.tokens() * width)?;
            }
            if !keep {
                trace.inputs[stage - 1].clear();
            }
            trace.inputs.push(outputs);
            trace.kept.push(kept);
            observer.end(self.device, stage)?;
            drop(weights);
            self.loader.rest(&self.block_visit(stage));
            // The device begins while the next stage is being recorded.
            self.device.submit()?;
            self.tick(stage);
        }
        Ok(trace)
    }

    /// Shows the inputs of a block's linear layers.
    fn show(&self, ctx: &Context<'_>, stage: usize, inner: &Inner, observer: &mut dyn Observer) -> Result<()> {
        match (&self.model.stages[stage], inner) {
            (Stage::Attention(block), Inner::Attention(inner)) => {
                attention::sites(block, inner).try_for_each(|(linear, x)| observer.site(ctx, stage, linear, x))
            }
            (Stage::Mlp(block), Inner::Mlp(inner)) => {
                mlp::sites(block, inner).try_for_each(|(linear, x)| observer.site(ctx, stage, linear, x))
            }
            _ => Err(misplaced(stage)),
        }
    }

    fn embed(&self, queue: &mut Queue<'_>) -> Result<Shelf> {
        let stage = self.embedding()?;
        let width = self.model.config.hidden;
        let parts = table_parts(stage.tokens, self.model, self.plan.table_rows, 0, false);
        let mut outputs = self.shelf();
        for part in 0..parts.len() {
            let weights = queue.next()?;
            let _span = self.device.span(|| format!("forward of {}", self.stage_name(0)));
            for chunk in 0..self.chunks.len() {
                let batch = self.batch(chunk)?;
                let ctx = self.context(&batch);
                let floats = ctx.tokens() * width;
                let y = match outputs.get(self.device, chunk)? {
                    Some(y) => y,
                    None => outputs.fresh(self.device, floats)?,
                };
                embedding::forward(&ctx, stage, width, &weights, &y, part + 1 == parts.len())?;
                outputs.put(self.device, chunk, y, floats)?;
            }
            self.device.submit()?;
        }
        // Not part by part: the next one is being read ahead, and would go with the others.
        self.loader.rest(&parts);
        Ok(outputs)
    }

    fn block_inner(&self, ctx: &Context<'_>, stage: usize, weights: &StageWeights, x: &Buffer) -> Result<Inner> {
        match &self.model.stages[stage] {
            Stage::Attention(block) => Ok(Inner::Attention(attention::inner(ctx, block, weights, x)?)),
            Stage::Mlp(block) => Ok(Inner::Mlp(mlp::inner(ctx, block, self.model.config.activation, weights, x)?)),
            _ => Err(misplaced(stage)),
        }
    }

    fn block_restored(
        &self,
        ctx: &Context<'_>,
        stage: usize,
        weights: &StageWeights,
        x: &Buffer,
        kept: Kept,
    ) -> Result<Inner> {
        match (&self.model.stages[stage], kept) {
            (Stage::Attention(block), Kept::Attention(kept)) => {
                Ok(Inner::Attention(attention::restore(ctx, block, weights, x, kept)?))
            }
            (Stage::Mlp(block), Kept::Mlp(kept)) => {
                Ok(Inner::Mlp(mlp::restore(ctx, block, self.model.config.activation, weights, x, kept)?))
            }
            _ => Err(misplaced(stage)),
        }
    }

    fn block_backward(
        &self,
        stage: usize,
        weights: &StageWeights,
        trace: &mut Trace,
        deltas: &mut Shelf,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let _span = self.device.span(|| format!("backward of {}", self.stage_name(stage)));
        let width = self.model.config.hidden;
        sink.begin(self.device, &wanted(sink, self.block_visit(stage)))?;
        for chunk in 0..self.chunks.len() {
            let batch = self.batch(chunk)?;
            let ctx = self.context(&batch);
            let x = stored(&trace.inputs[stage - 1], self.device, chunk)?;
            let delta = stored(deltas, self.device, chunk)?;
            let kept = trace.kept[stage].get_mut(chunk).and_then(Option::take);
            let inner = match kept {
                Some(kept) => self.block_restored(&ctx, stage, weights, &x, kept)?,
                None => self.block_inner(&ctx, stage, weights, &x)?,
            };
            match (&self.model.stages[stage], &inner) {
                (Stage::Attention(block), Inner::Attention(inner)) => {
                    attention::backward(&ctx, block, weights, &x, inner, &delta, sink)?;
                }
                (Stage::Mlp(block), Inner::Mlp(inner)) => {
                    mlp::backward(&ctx, block, self.model.config.activation, weights, &x, inner, &delta, sink)?;
                }
                _ => return Err(misplaced(stage)),
            }
            deltas.put(self.device, chunk, delta, ctx.tokens() * width)?;
        }
        trace.inputs[stage].clear();
        sink.end(self.device)
    }

    fn embedding_backward(&self, deltas: &Shelf, head_rows: &Shelf, sink: &mut dyn Sink) -> Result<()> {
        let _span = self.device.span(|| format!("backward of {}", self.stage_name(0)));
        let stage = self.embedding()?;
        let tables =
            table_parts(stage.tokens, self.model, self.plan.table_rows, self.number as u32, self.model.config.tied);
        let mut visits: Vec<Visit> = tables.into_iter().map(|part| vec![part]).collect();
        if let (Some(positions), Some(last)) = (stage.positions, visits.last_mut()) {
            last.push(whole(self.model, positions, self.number as u32));
        }
        for visit in visits {
            sink.begin(self.device, &wanted(sink, visit))?;
            for chunk in 0..self.chunks.len() {
                let batch = self.batch(chunk)?;
                let delta = stored(deltas, self.device, chunk)?;
                let rows = head_rows.get(self.device, chunk)?;
                let width = self.model.config.hidden;
                embedding::backward(&self.context(&batch), stage, width, &delta, rows.as_deref(), sink)?;
            }
            sink.end(self.device)?;
        }
        Ok(())
    }
}

/// The parts of a visit whose gradient is wanted.
pub(super) fn wanted(sink: &dyn Sink, visit: Vec<Part>) -> Vec<Part> {
    visit.into_iter().filter(|part| sink.wants(part.parameter)).collect()
}

/// A chunk's buffer that must be there.
pub(super) fn stored(shelf: &Shelf, device: &Device, chunk: usize) -> Result<Held> {
    shelf.get(device, chunk)?.ok_or_else(|| Error::Device("an activation that a visit needs was let go".into()))
}

fn misplaced(stage: usize) -> Error {
    Error::Device(format!("stage {stage} is not a layer's"))
}
