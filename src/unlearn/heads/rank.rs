//! Heads by importance: which of them are worth trying.

use std::cmp::Reverse;

use super::Head;
use crate::Result;
use crate::model::parameters::{AttentionStage, Layout};
use crate::model::{Model, Stage};
use crate::unlearn::measured::Measured;
use crate::unlearn::selection::{Axis, Granularity, Grouping, Heads};

/// The model's attention stages with their numbers.
pub(super) fn attention(model: &Model) -> impl Iterator<Item = (usize, &AttentionStage)> {
    model.stages.iter().enumerate().filter_map(|(number, stage)| match stage {
        Stage::Attention(stage) => Some((number, stage)),
        _ => None,
    })
}

/// For each parameter whether it is an output projection of attention that may change.
pub fn output_projections(model: &Model, allowed: &[bool]) -> Vec<bool> {
    let mut outputs = vec![false; model.parameters.len()];
    attention(model).for_each(|(_, stage)| outputs[stage.output.weight] = allowed[stage.output.weight]);
    outputs
}

/// The heads whose output projection is among the `wanted` parameters, most promising first: by descending F_f² / F_r, with the
/// importance F_f for the `forget` set and F_r for the `retain` set, both summed over the head's part of the projection. (The ratio
/// alone puts heads first that mean next to nothing to either set.) Of equals the first comes first; a head that means nothing to
/// the forget set comes last.
///
/// # Errors
/// When an importance cannot be read.
pub fn rank(model: &Model, (forget, retain): (&Measured, &Measured), wanted: &[bool]) -> Result<Vec<Head>> {
    let mut ranked: Vec<(f64, Head)> = Vec::new();
    for (layer, (number, stage)) in attention(model).enumerate() {
        let id = stage.output.weight;
        if !wanted[id] {
            continue;
        }
        let parameter = &model.parameters[id];
        let axis = if stage.output.layout == Layout::OutIn { Axis::Columns } else { Axis::Rows };
        let heads = Heads { dim: stage.heads.head_dim, axis };
        let grouping = Grouping::new(Granularity::Head, &parameter.shape, Some(heads))?;
        let values = (forget.values(id, parameter)?, retain.values(id, parameter)?);
        let scales = (f64::from(forget.scale()), f64::from(retain.scale()));
        let scores = grouping.scores(&values.0, scales.0, &values.1, scales.1)?;
        ranked.extend(scores.iter().enumerate().map(|(head, score)| {
            let promise = score.ratio(0.0).map_or(0.0, |ratio| f64::from(ratio) * score.forget);
            let promise = if promise > 0.0 { promise } else { 0.0 };
            (promise, Head { layer, stage: number, head })
        }));
    }
    // None is negative or not a number: their bits are in their order.
    ranked.sort_by_key(|(promise, head)| (Reverse(promise.to_bits()), *head));
    Ok(ranked.into_iter().map(|(_, head)| head).collect())
}
