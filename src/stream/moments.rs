//! A group at the last stage, forward only: how the log-probabilities over the vocabulary lie at every target.

use super::activations::Shelf;
use super::group::{Group, stored};
use super::head::{samples, span, stage, table};
use super::loader::Queue;
use super::terms::SampleLoss;
use crate::Result;
use crate::device::Download;
use crate::kernels::loss::log_moments::{STATE, spread};
use crate::kernels::loss::{NO_TARGET, initial_moments, nll};
use crate::model::batch::Chunk;
use crate::model::head::{self, Fold};

/// A sample's targets among everything that the model holds possible there. One figure for each target, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleMoments {
    /// The targets' own losses.
    pub loss: SampleLoss,
    /// The mean of log p over the vocabulary, under p itself: the negative entropy, in nats.
    pub mean: Vec<f32>,
    /// Its standard deviation, in nats.
    pub deviation: Vec<f32>,
}

/// Folds the head, part by part, and adds the group's samples in order. A token's state is as large as what the losses keep.
pub(super) fn moments(
    group: &Group<'_>,
    queue: &mut Queue<'_>,
    input: &Shelf,
    moments: &mut Vec<SampleMoments>,
) -> Result<()> {
    let start = |chunk: &Chunk| Download::here(initial_moments(chunk.tokens()));
    let mut folded: Vec<Download<f32>> = group.chunks.iter().map(start).collect();
    for _ in table(group)? {
        let weights = queue.next()?;
        let _span = group.device.span(|| format!("moments at {}", group.stage_name(group.model.stages.len() - 1)));
        for (chunk, folded) in folded.iter_mut().enumerate() {
            let batch = group.batch(chunk)?;
            let ctx = group.context(&batch);
            let x = stored(input, group.device, chunk)?;
            let normed = head::normed(&ctx, stage(group)?, &weights, &x)?;
            let before = std::mem::replace(folded, Download::here(Vec::new())).finish()?;
            let state = group.device.upload_new(&before)?;
            for (first_row, slice) in weights.get(stage(group)?.weight)?.matrices() {
                let logits = head::logits(&ctx, group.model.config.hidden, &normed, slice)?;
                let fold = Fold::Moments { targets: &batch.targets, state: &state };
                head::fold(&ctx, first_row, slice.rows, &logits, &fold)?;
            }
            *folded = group.device.read_later(&state, STATE * ctx.tokens())?;
        }
        group.device.submit()?;
    }
    for (chunk, folded) in group.chunks.iter().zip(folded) {
        let state = folded.finish()?;
        moments.extend((0..samples(chunk)).map(|sample| of_sample(chunk, sample, &state)));
    }
    Ok(())
}

fn of_sample(chunk: &Chunk, sample: usize, state: &[f32]) -> SampleMoments {
    let mut moments = SampleMoments::default();
    let (states, _) = state.as_chunks::<STATE>();
    for token in span(chunk, sample).filter(|token| chunk.targets[*token] != NO_TARGET) {
        let state = &states[token];
        let [mean, deviation] = spread(state);
        moments.loss.tokens.push(nll(&[state[0], state[1], state[2]]) as f32);
        moments.mean.push(mean as f32);
        moments.deviation.push(deviation as f32);
    }
    moments
}
