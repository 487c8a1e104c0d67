//! Selective synaptic dampening of the selected weights (Foster et al. 2024): `w *= min(lambda F / F_forget, 1)`.

use half::{bf16, f16};
use rayon::prelude::*;

use super::{
    Comparison, LEAST_RESULT, PIECE, comparison, elements, is_selected, product, quotient, variant, word_grid,
};
use crate::device::{Buffer, CpuBindings, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, launch};
use crate::{Element, Error, Result};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "update/dampen", summary: "w *= min(lambda F / F_forget, 1) under a mask" };

kernel_params! {
    /// The shader's parameters.
    Params = UPDATE_DAMPEN {
        /// Number of weights.
        count: u32,
        /// Makes a mean of the forget set's sums.
        forget_scale: f32,
        /// Makes a mean of the retain set's sums.
        retain_scale: f32,
        /// The forget set's part in what is compared with.
        blend: f32,
        /// The factor of what is compared with.
        lambda: f32,
    }
}

/// Multiplies the selected ones of `count` packed `weights` by `min(lambda F / F_forget, 1)` (see the [family](super)) and
/// rounds them once, to nearest, ties to even. All other weights keep their bits. So does a selected one whose factor is
/// 1, whose forget importance is 0, whose importances are not valid, or which is not finite. Factors and products below
/// 2^-125 become zero. The result has the same bits on every device.
///
/// # Errors
/// When there are more than [`MAX_COUNT`](super::MAX_COUNT) weights, `lambda` is negative or not finite, a scale or the
/// blend is out of range, a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    count: usize,
    element: Element,
    weights: &Buffer,
    mask: &Buffer,
    forget: &Buffer,
    forget_scale: f32,
    retain: &Buffer,
    retain_scale: f32,
    blend: f32,
    lambda: f32,
) -> Result<()> {
    if !(lambda.is_finite() && lambda >= 0.0) {
        return Err(Error::argument(format!("lambda is 0 or above, not {lambda}")));
    }
    let comparison = comparison(forget_scale, retain_scale, blend)?;
    let params = Params { count: elements(count)?, forget_scale, retain_scale, blend, lambda };
    let buffers = [weights, mask, forget, retain];
    launch(
        device,
        KERNEL.name,
        &variant(element),
        &params,
        &buffers,
        word_grid(element, count),
        cost(&params, element, 0),
        // How many weights are selected only the device knows: the least is what the mask costs.
        |buffers| match element {
            Element::F32 => twin(&params, comparison, buffers, |w| w, |w| w),
            Element::F16 => twin(&params, comparison, buffers, f16::to_f32, f16::from_f32),
            Element::Bf16 => twin(&params, comparison, buffers, bf16::to_f32, bf16::from_f32),
        },
    )
}

/// What one launch costs if `selected` weights are: only these are looked at.
pub fn cost(params: &Params, element: Element, selected: u64) -> Cost {
    let mask = u64::from(params.count) / 8;
    Cost { bytes: mask + selected * (2 * 4 + 2 * element.size() as u64), operations: 20 * selected }
}

/// A weight's new value; `None` where it keeps its bits.
fn dampened(comparison: Comparison, lambda: f32, weight: f32, forget: f32, retain: f32) -> Option<f32> {
    let (forget, compared) = comparison.pair(forget, retain)?;
    let wanted = product(compared, lambda);
    if forget == 0.0 || wanted >= forget || !weight.is_finite() {
        return None;
    }
    let factor = if wanted == 0.0 { 0.0 } else { quotient(wanted, forget) };
    let factor = if factor < LEAST_RESULT { 0.0 } else { factor };
    (factor < 1.0).then(|| product(weight, factor))
}

/// The shader's loop, plainly, on weights that are not rounded. Every operation is defined to the bit, so there is no
/// other precision to compare with.
pub fn reference(params: &Params, weights: &mut [f32], mask: &[u32], forget: &[f32], retain: &[f32]) {
    let Params { forget_scale, retain_scale, blend, lambda, .. } = *params;
    let comparison = Comparison { forget_scale, retain_scale, blend };
    for i in 0..params.count as usize {
        if is_selected(mask, i)
            && let Some(value) = dampened(comparison, lambda, weights[i], forget[i], retain[i])
        {
            weights[i] = value;
        }
    }
}

/// The fast form on the CPU: pieces in parallel, and words of the mask without a bit passed over.
fn twin<T: bytemuck::Pod + Send + Sync>(
    params: &Params,
    comparison: Comparison,
    buffers: &CpuBindings<'_>,
    widen: impl Fn(T) -> f32 + Sync,
    round: impl Fn(f32) -> T + Sync,
) {
    let count = params.count as usize;
    let (mut weights, mask) = (buffers.write::<T>(1), buffers.read::<u32>(2));
    let (forget, retain) = (buffers.read::<f32>(3), buffers.read::<f32>(4));
    let importances = forget[..count].par_chunks(PIECE).zip(retain[..count].par_chunks(PIECE));
    let masked = weights[..count].par_chunks_mut(PIECE).zip(mask.par_chunks(PIECE / 32));
    masked.zip(importances).for_each(|((weights, mask), (forget, retain))| {
        for (word, first) in mask.iter().zip((0..).step_by(32)).filter(|(word, _)| **word != 0) {
            for i in (first..weights.len().min(first + 32)).filter(|i| word >> (i - first) & 1 == 1) {
                if let Some(value) = dampened(comparison, params.lambda, widen(weights[i]), forget[i], retain[i]) {
                    weights[i] = round(value);
                }
            }
        }
    });
}
