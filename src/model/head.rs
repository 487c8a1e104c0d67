//! The last stage: the final norm, the product with the head and the loss, a part of the vocabulary at a time, so that the
//! logits of a whole batch never exist.
//!
//! How many rows a part has is the memory budget's business and must not show in a result. Powers of two for half precision are
//! chosen by what is rounded together, so the head is computed in full precision.

use super::norm;
use super::parameters::HeadStage;
use super::sink::{Context, MatrixSite, Sink};
use super::weights::StageWeights;
use crate::Result;
use crate::device::{Buffer, Lease};
use crate::kernels::elementwise::add;
use crate::kernels::embedding::{RowIndex, head_rows};
use crate::kernels::linear::{matmul_nn, matmul_nt};
use crate::kernels::loss::{argmax, log_moments, log_sum_exp, logits_grad, sample_labels, square_norm_grad};
use crate::kernels::precision::Precision;
use crate::kernels::{Matrix, Window};

/// The final norm's output.
///
/// # Errors
/// When the device failed.
pub fn normed(ctx: &Context<'_>, stage: &HeadStage, weights: &StageWeights, x: &Buffer) -> Result<Lease> {
    let width = stage.norm.width;
    let normed = ctx.rows(width)?;
    norm::forward(ctx, &stage.norm, 1, weights, Window::all(x, width), Window::all(&normed, width))?;
    Ok(normed)
}

/// What a fold over the vocabulary's parts yields for each token.
#[derive(Debug)]
pub enum Fold<'a> {
    /// Log-sum-exp and the target's logit, `[tokens, 3]`, for these targets.
    Loss {
        /// Target of each token.
        targets: &'a Buffer,
        /// The running state.
        state: &'a Buffer,
    },
    /// The moments of the log-probabilities and the target's logit, `[tokens, 5]`, for these targets.
    Moments {
        /// Target of each token.
        targets: &'a Buffer,
        /// The running state.
        state: &'a Buffer,
    },
    /// The likeliest token, `[tokens, 2]`.
    Argmax {
        /// The running best.
        best: &'a Buffer,
    },
    /// A token drawn from the model's distribution, `[tokens, 2]`, by the batch's keys.
    Sample {
        /// Seed of the draw.
        seed: u64,
        /// What logits are divided by.
        temperature: f32,
        /// The running best.
        best: &'a Buffer,
    },
}

/// What the loss at a token is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LossKind {
    /// Cross-entropy.
    #[default]
    CrossEntropy,
    /// The squared norm of the logits, ‖l‖²: what the token's label is does not matter (LFSSD; Foster et al. 2024).
    SquareNorm,
}

/// What backward needs of the loss at each token.
#[derive(Clone, Copy, Debug)]
pub struct Loss<'a> {
    /// What it is made of; of the squared norm only the weights count.
    pub kind: LossKind,
    /// The target; none takes nothing out of the softmax.
    pub targets: &'a Buffer,
    /// What its loss counts for.
    pub weights: &'a Buffer,
    /// The complete folds.
    pub state: &'a Buffer,
    /// What is added to the gradient at the slice's logits, where targets are distributions: `[tokens, slice rows]`.
    pub soft: Option<&'a Buffer>,
}

/// The logits of one slice of the head, `[tokens, slice rows]`.
///
/// # Errors
/// When the device failed.
pub fn logits(ctx: &Context<'_>, width: usize, normed: &Buffer, slice: Matrix<'_>) -> Result<Lease> {
    let logits = ctx.rows(slice.rows)?;
    let (x, y) = (Window::all(normed, width), Window::all(&logits, slice.rows));
    matmul_nt::run(&ctx.device.with_precision(Precision::Full), ctx.tokens(), x, slice, y, false)?;
    Ok(logits)
}

/// Folds a slice's logits into a running state.
///
/// # Errors
/// When the device failed.
pub fn fold(ctx: &Context<'_>, first_row: usize, rows: usize, logits: &Buffer, fold: &Fold<'_>) -> Result<()> {
    let (device, tokens) = (ctx.device, ctx.tokens());
    match fold {
        Fold::Loss { targets, state } => log_sum_exp::run(device, tokens, rows, first_row, logits, targets, state),
        Fold::Moments { targets, state } => log_moments::run(device, tokens, rows, first_row, logits, targets, state),
        Fold::Argmax { best } => argmax::run(device, tokens, rows, first_row, logits, best),
        Fold::Sample { seed, temperature, best } => {
            let keys = &ctx.batch.keys;
            sample_labels::run(device, tokens, rows, first_row, *seed, *temperature, keys, logits, best)
        }
    }
}

/// A slice's part of backward: from its logits (overwritten) to its part of the gradient at the norm's output, with its
/// site handed over. Where the head is tied, `tied` receives the gradient's rows of the batch's own tokens.
///
/// # Errors
/// When the device failed.
pub fn backward(
    ctx: &Context<'_>,
    stage: &HeadStage,
    (first_row, slice): (usize, Matrix<'_>),
    normed: &Buffer,
    logits: &Buffer,
    loss: Loss<'_>,
    d_normed: &Buffer,
    tied: Option<(&RowIndex, &Buffer)>,
    sink: &mut dyn Sink,
) -> Result<()> {
    let full = ctx.device.with_precision(Precision::Full);
    let ctx = &Context { device: &full, ..*ctx };
    let (device, tokens, width, rows) = (ctx.device, ctx.tokens(), stage.norm.width, slice.rows);
    let Loss { kind, targets, weights, state, soft } = loss;
    match kind {
        LossKind::CrossEntropy => {
            logits_grad::run(device, tokens, rows, first_row, targets, weights, state, logits)?;
        }
        LossKind::SquareNorm => square_norm_grad::run(device, tokens, rows, weights, logits)?,
    }
    if let Some(soft) = soft {
        add::run(device, tokens * rows, soft, logits)?;
    }
    let (left, right) = (Window::all(logits, rows), Window::all(normed, width));
    matmul_nn::run(device, tokens, left, slice, Window::all(d_normed, width), first_row > 0)?;
    if let Some((index, kept)) = tied {
        head_rows::run(device, index, first_row, rows, left, right, width, kept)?;
    }
    if sink.wants(stage.weight) {
        sink.matrix(ctx, &MatrixSite { parameter: stage.weight, first_row, rows, columns: width, left, right })?;
    }
    Ok(())
}
