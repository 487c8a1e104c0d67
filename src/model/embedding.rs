//! The first stage: `y[t] = tokens[id_t] + positions[t]`.

use super::parameters::EmbeddingStage;
use super::sink::{Context, Sink, TableSite};
use super::weights::StageWeights;
use crate::Result;
use crate::device::Buffer;
use crate::kernels::Window;
use crate::kernels::embedding::{RowIndex, lookup};

/// Looks up the rows that `weights` holds of the token table, and adds the positions' once the last of them is there.
/// Rows of other tokens are left as they are, so that a table can come in parts.
///
/// # Errors
/// When the device failed.
pub fn forward(
    ctx: &Context<'_>,
    stage: &EmbeddingStage,
    width: usize,
    weights: &StageWeights,
    y: &Buffer,
    last: bool,
) -> Result<()> {
    let y = Window::all(y, width);
    for (first_row, matrix) in weights.get(stage.tokens)?.matrices() {
        lookup::run(ctx.device, ctx.tokens(), &ctx.batch.ids, first_row, matrix, y, false)?;
    }
    if let Some(positions) = stage.positions.filter(|_| last) {
        for (first_row, matrix) in weights.get(positions)?.matrices() {
            lookup::run(ctx.device, ctx.tokens(), &ctx.batch.positions, first_row, matrix, y, true)?;
        }
    }
    Ok(())
}

/// Hands the tables over. `head_rows` is the head's part of the gradient in the rows of this batch's tokens, where the
/// table is also the head.
///
/// # Errors
/// When the device failed.
pub fn backward(
    ctx: &Context<'_>,
    stage: &EmbeddingStage,
    width: usize,
    delta: &Buffer,
    head_rows: Option<&Buffer>,
    sink: &mut dyn Sink,
) -> Result<()> {
    let chunk = &ctx.batch.chunk;
    let tables = [
        Some((stage.tokens, &ctx.batch.ids, &chunk.ids, head_rows)),
        stage.positions.map(|positions| (positions, &ctx.batch.positions, &chunk.positions, None)),
    ];
    for (parameter, ids, host_ids, head_rows) in tables.into_iter().flatten() {
        if sink.wants(parameter) {
            let index = &RowIndex::new(ctx.device, &chunk.units, host_ids)?;
            let delta = Window::all(delta, width);
            sink.table(ctx, &TableSite { parameter, columns: width, ids, index, delta, head_rows })?;
        }
    }
    Ok(())
}
