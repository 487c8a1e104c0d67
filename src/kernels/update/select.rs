//! Selects the weights that the forget set needs more than `threshold` times as much as what they are compared with.

use rayon::prelude::*;

use super::{Comparison, PIECE, comparison, elements, mask_words, ratio};
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, flat_grid, launch};
use crate::{Error, Result};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "update/select", summary: "mask of the weights with F_forget / F > threshold" };

kernel_params! {
    /// The shader's parameters.
    Params = UPDATE_SELECT {
        /// Number of weights.
        count: u32,
        /// Makes a mean of the forget set's sums.
        forget_scale: f32,
        /// Makes a mean of the retain set's sums.
        retain_scale: f32,
        /// The forget set's part in what is compared with.
        blend: f32,
        /// The bits of the threshold.
        threshold: u32,
    }
}

/// Writes the `mask` (`u32` `[ceil(count / 32)]`) of the weights with `F_forget > 0` and `F_forget / F > threshold` (see the
/// [family](super)). A weight that the forget set alone needs has an infinite ratio and is above every finite threshold;
/// one with an invalid importance is not selected.
///
/// The ratio is the rounded one of [`ratio`], as in the histogram. To select a bin and all above it, pass the number
/// before its edge: `lower_edge(bin).next_down()`.
///
/// # Errors
/// When there are more than [`MAX_COUNT`](super::MAX_COUNT) weights, the threshold is negative or NaN, a scale or the blend
/// is out of range, a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    count: usize,
    forget: &Buffer,
    forget_scale: f32,
    retain: &Buffer,
    retain_scale: f32,
    blend: f32,
    threshold: f32,
    mask: &Buffer,
) -> Result<()> {
    if threshold.is_nan() || threshold < 0.0 {
        return Err(Error::argument(format!("a threshold of ratios is 0 or above, not {threshold}")));
    }
    let comparison = comparison(forget_scale, retain_scale, blend)?;
    // The bits of zero without a sign.
    let threshold = (threshold + 0.0).to_bits();
    let params = Params { count: elements(count)?, forget_scale, retain_scale, blend, threshold };
    launch(device, KERNEL.name, "", &params, &[forget, retain, mask], flat_grid(count, 256), cost(&params), |buffers| {
        cpu(&params, comparison, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs: a division of integers counts as one operation, and there are three.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.count);
    Cost { bytes: 2 * 4 * count + count / 8, operations: 18 * count }
}

fn is_above(comparison: Comparison, threshold: u32, forget: f32, retain: f32) -> bool {
    comparison
        .pair(forget, retain)
        .is_some_and(|(forget, compared)| forget > 0.0 && ratio(forget, compared) > f32::from_bits(threshold))
}

/// The shader's loop, plainly. Its result is exact, so there is no other precision to compare with.
pub fn reference(params: &Params, forget: &[f32], retain: &[f32], mask: &mut [u32]) {
    let Params { forget_scale, retain_scale, blend, .. } = *params;
    mask[..mask_words(params.count as usize)].fill(0);
    for i in 0..params.count as usize {
        let above = is_above(Comparison { forget_scale, retain_scale, blend }, params.threshold, forget[i], retain[i]);
        mask[i / 32] |= u32::from(above) << (i % 32);
    }
}

/// The fast form on the CPU: pieces in parallel.
fn cpu(params: &Params, comparison: Comparison, forget: &[f32], retain: &[f32], mask: &mut [u32]) {
    let count = params.count as usize;
    let pieces = forget[..count].par_chunks(PIECE).zip(retain[..count].par_chunks(PIECE));
    mask[..mask_words(count)].par_chunks_mut(PIECE / 32).zip(pieces).for_each(|(words, (forget, retain))| {
        for (word, (forget, retain)) in words.iter_mut().zip(forget.chunks(32).zip(retain.chunks(32))) {
            let above = |(f, r): (&f32, &f32)| u32::from(is_above(comparison, params.threshold, *f, *r));
            *word = forget.iter().zip(retain).map(above).enumerate().fold(0, |word, (i, bit)| word | bit << i);
        }
    });
}
