//! A step of AdamW (Loshchilov and Hutter 2019, "Decoupled weight decay regularization") on the selected weights only:
//! master values and moments are kept in `f32` for these alone, and the stored weight is rounded once.

use half::{bf16, f16};
use rayon::prelude::*;

use super::{PIECE, elements, is_selected, mask_words, variant, word_grid};
use crate::device::{Buffer, CpuBindings, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, Real, launch};
use crate::{Element, Error, Result};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "update/adamw", summary: "a step of AdamW on the weights under a mask" };

kernel_params! {
    /// The shader's parameters.
    Params = UPDATE_ADAMW {
        /// Number of weights.
        count: u32,
        /// Step size.
        learning_rate: f32,
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Keeps the denominator from zero.
        epsilon: f32,
        /// Decay of the weights per unit of step size.
        weight_decay: f32,
        /// `1 - beta1^t`.
        bias_correction1: f32,
        /// `1 - beta2^t`.
        bias_correction2: f32,
        /// Makes the gradient of the loss of the stored sums.
        gradient_scale: f32,
    }
}

/// Bytes of a selected weight's master value and moments.
const STATE_BYTES: u64 = 3 * 4;

/// The settings of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwStep {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Keeps the denominator from zero.
    pub epsilon: f32,
    /// Decay of the weights per unit of step size.
    pub weight_decay: f32,
    /// `1 - beta1^t` for step t, from 1.
    pub bias_correction1: f32,
    /// `1 - beta2^t` for step t, from 1.
    pub bias_correction2: f32,
    /// Makes the gradient of the loss of the stored sums.
    pub gradient_scale: f32,
}

impl AdamwStep {
    /// Step `t`, from 1, with the usual decays 0.9 and 0.999, epsilon 1e-8 and no decay of the weights.
    pub fn new(learning_rate: f32, t: u32) -> Self {
        let (beta1, beta2) = (0.9, 0.999);
        AdamwStep {
            learning_rate,
            beta1,
            beta2,
            epsilon: 1e-8,
            weight_decay: 0.0,
            bias_correction1: bias_correction(beta1, t),
            bias_correction2: bias_correction(beta2, t),
            gradient_scale: 1.0,
        }
    }
}

/// `1 - beta^t`, of the `beta` that the kernel computes with.
pub fn bias_correction(beta: f32, t: u32) -> f32 {
    (1.0 - f64::from(beta).powf(f64::from(t))) as f32
}

/// How many weights are selected before each word of a mask.
pub fn ranks(mask: &[u32]) -> Vec<u32> {
    let mut before = 0u32;
    let counted = mask.iter().map(|word| {
        let rank = before;
        before += word.count_ones();
        rank
    });
    counted.collect()
}

/// The state `[selected, 3]` before the first step: the selected ones of the packed `weights` as master values, moments 0.
///
/// # Errors
/// When the mask or the weights are shorter than `count` needs.
pub fn initial_state(element: Element, weights: &[u8], mask: &[u32], count: usize) -> Result<Vec<f32>> {
    if weights.len() < count * element.size() || mask.len() < mask_words(count) {
        return Err(Error::argument(format!(
            "{} bytes of weights and a mask of {} words do not hold {count} {} weights",
            weights.len(),
            mask.len(),
            element.name()
        )));
    }
    let mut state = Vec::new();
    for i in (0..count).filter(|i| is_selected(mask, *i)) {
        let mut master = [0.0];
        element.decode(&weights[i * element.size()..(i + 1) * element.size()], &mut master)?;
        state.extend([master[0], 0.0, 0.0]);
    }
    Ok(state)
}

/// Steps the selected ones of `count` packed `weights`. `ranks` is what [`ranks`] says of the `mask`, `gradient` is
/// `[count]`, and `state` `[selected, 3]` (from [`initial_state`]) holds master value, first and second moment. The stored
/// weight is the master value rounded to nearest, ties to even. All other weights keep their bits.
///
/// # Errors
/// When there are more than [`MAX_COUNT`](super::MAX_COUNT) weights, a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    count: usize,
    element: Element,
    weights: &Buffer,
    mask: &Buffer,
    ranks: &Buffer,
    gradient: &Buffer,
    state: &Buffer,
    step: AdamwStep,
) -> Result<()> {
    let params = Params {
        count: elements(count)?,
        learning_rate: step.learning_rate,
        beta1: step.beta1,
        beta2: step.beta2,
        epsilon: step.epsilon,
        weight_decay: step.weight_decay,
        bias_correction1: step.bias_correction1,
        bias_correction2: step.bias_correction2,
        gradient_scale: step.gradient_scale,
    };
    let buffers = [weights, mask, ranks, gradient, state];
    launch(
        device,
        KERNEL.name,
        &variant(element),
        &params,
        &buffers,
        word_grid(element, count),
        cost(&params, element, state.bytes() / STATE_BYTES),
        |buffers| match element {
            Element::F32 => twin(&params, buffers, |value| value),
            Element::F16 => twin(&params, buffers, f16::from_f32),
            Element::Bf16 => twin(&params, buffers, bf16::from_f32),
        },
    )
}

/// What one launch costs if `selected` weights are: only these are looked at. A root counts as one operation.
pub fn cost(params: &Params, element: Element, selected: u64) -> Cost {
    let mask = u64::from(params.count) / 8;
    Cost { bytes: 2 * mask + selected * (4 + 2 * 3 * 4 + 2 * element.size() as u64), operations: 17 * selected }
}

/// A step of one weight's master value and moments; the new master value.
fn advance<R: Real>(p: &Params, gradient: R, state: &mut [R]) -> R {
    let [beta1, beta2] = [p.beta1, p.beta2].map(|beta| R::real(f64::from(beta)));
    let real = |value: f32| R::real(f64::from(value));
    let one = R::real(1.0);
    let g = gradient * real(p.gradient_scale);
    let master = state[0];
    let first = beta1 * state[1] + (one - beta1) * g;
    let second = beta2 * state[2] + (one - beta2) * g * g;
    let denominator = (second / real(p.bias_correction2)).sqrt() + real(p.epsilon);
    let direction = first / real(p.bias_correction1) / denominator;
    let stepped = master - real(p.learning_rate) * (direction + real(p.weight_decay) * master);
    state.copy_from_slice(&[stepped, first, second]);
    stepped
}

/// The shader's loop, plainly, on weights that are not rounded.
pub fn reference<R: Real>(params: &Params, weights: &mut [R], mask: &[u32], gradient: &[R], state: &mut [R]) {
    let mut rows = state.chunks_exact_mut(3);
    for i in (0..params.count as usize).filter(|i| is_selected(mask, *i)) {
        if let Some(row) = rows.next() {
            weights[i] = advance(params, gradient[i], row);
        }
    }
}

/// The fast form on the CPU: pieces in parallel, and words of the mask without a bit passed over.
fn twin<T: bytemuck::Pod + Send>(params: &Params, buffers: &CpuBindings<'_>, round: impl Fn(f32) -> T + Sync) {
    let count = params.count as usize;
    let (mut weights, mut state) = (buffers.write::<T>(1), buffers.write::<f32>(5));
    let (mask, gradient) = (buffers.read::<u32>(2), buffers.read::<f32>(4));
    let mask = &mask[..mask_words(count)];
    let mut rest = &mut state[..];
    let mut pieces = Vec::with_capacity(count.div_ceil(PIECE));
    for (weights, (mask, gradient)) in
        weights[..count].chunks_mut(PIECE).zip(mask.chunks(PIECE / 32).zip(gradient[..count].chunks(PIECE)))
    {
        let selected: u32 = mask.iter().map(|word| word.count_ones()).sum();
        let (own, others) = rest.split_at_mut(3 * selected as usize);
        pieces.push((weights, mask, gradient, own));
        rest = others;
    }
    pieces.into_par_iter().for_each(|(weights, mask, gradient, state)| {
        let mut rows = state.chunks_exact_mut(3);
        for (word, first) in mask.iter().zip((0..).step_by(32)).filter(|(word, _)| **word != 0) {
            let selected = (first..weights.len().min(first + 32)).filter(|i| word >> (i - first) & 1 == 1);
            for (i, row) in selected.zip(&mut rows) {
                weights[i] = round(advance(params, gradient[i], row));
            }
        }
    });
}
