//! Kernels that choose weights by what two sets need of them, and change the chosen ones.
//!
//! All of them look at `F_forget / F`, where `F = blend F_forget + (1 - blend) F_retain`: blend 0 compares with the retain
//! set, blend `N_forget / (N_forget + N_retain)` with both together. What a sum must be multiplied by to be a mean is
//! passed beside it. Ratios are correctly rounded on every device, so that the histogram's counts, the selection and the
//! bits of dampened weights agree everywhere. Importances below 2^-125 count as zero, because devices differ in what they
//! make of numbers that small.
//!
//! A mask has one bit for a weight: bit `i % 32` of word `i / 32`. Its bits beyond the last weight are zero.

pub mod adamw;
pub mod combine;
pub mod dampen;
pub mod log_ratio_histogram;
pub mod select;

use crate::kernels::{Kernel, index};
use crate::{Element, Error, Result};

pub use adamw::{AdamwStep, initial_state, ranks};
pub use log_ratio_histogram::{BINS, bin_of, lower_edge};

/// The family's kernels.
pub const KERNELS: &[Kernel] =
    &[adamw::KERNEL, combine::KERNEL, dampen::KERNEL, log_ratio_histogram::KERNEL, select::KERNEL];

/// Weights that one launch can treat.
pub const MAX_COUNT: usize = 1 << 31;

/// Results below it count as zero.
const LEAST_RESULT: f32 = f32::MIN_POSITIVE * 2.0;

/// Words of a mask of `count` weights.
pub const fn mask_words(count: usize) -> usize {
    count.div_ceil(32)
}

/// Whether weight `i` is selected.
pub fn is_selected(mask: &[u32], i: usize) -> bool {
    mask[i / 32] >> (i % 32) & 1 == 1
}

/// How a launch compares importances.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    pub(crate) forget_scale: f32,
    pub(crate) retain_scale: f32,
    pub(crate) blend: f32,
}

impl Comparison {
    /// A weight's importance for the forget set and what it is compared with, from the stored sums; `None` where one of
    /// them is negative or not finite.
    pub(crate) fn pair(self, forget: f32, retain: f32) -> Option<(f32, f32)> {
        let forget = importance(forget, self.forget_scale)?;
        let retain = importance(retain, self.retain_scale)?;
        let compared = product(forget, self.blend) + product(retain, 1.0 - self.blend);
        compared.is_finite().then_some((forget, compared))
    }
}

/// `stored * scale` if it is an importance.
fn importance(stored: f32, scale: f32) -> Option<f32> {
    if stored.abs() < f32::MIN_POSITIVE {
        return Some(0.0);
    }
    Some(product(stored, scale)).filter(|value| value.is_finite() && stored > 0.0)
}

/// A product, or zero of its sign below the least result.
fn product(a: f32, b: f32) -> f32 {
    let product = a * b;
    if product.abs() < LEAST_RESULT { 0.0f32.copysign(product) } else { product }
}

/// `a / b` for normal `a` and `b`; the largest number where that overflows, the smallest one below the least result.
fn quotient(a: f32, b: f32) -> f32 {
    let quotient = a / b;
    if quotient < LEAST_RESULT { f32::from_bits(1) } else { quotient.min(f32::MAX) }
}

/// The ratio of a forget importance to what it is compared with, as the kernels see it: 0 for a forget importance of 0,
/// never 0 above it, infinite over 0, and otherwise the correctly rounded quotient.
pub fn ratio(forget: f32, compared: f32) -> f32 {
    if forget == 0.0 {
        0.0
    } else if compared == 0.0 {
        f32::INFINITY
    } else {
        quotient(forget, compared)
    }
}

/// `count` as the shaders' number.
fn elements(count: usize) -> Result<u32> {
    if count > MAX_COUNT {
        return Err(Error::Device(format!("{count} weights in one launch; {MAX_COUNT} are possible")));
    }
    index(count)
}

/// The settings of a comparison, checked.
fn comparison(forget_scale: f32, retain_scale: f32, blend: f32) -> Result<Comparison> {
    for scale in [forget_scale, retain_scale] {
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::argument(format!("importances are scaled by a positive number, not by {scale}")));
        }
    }
    if !(0.0..1.0).contains(&blend) {
        return Err(Error::argument(format!("the forget set's part is from 0 to below 1, not {blend}")));
    }
    Ok(Comparison { forget_scale, retain_scale, blend })
}

/// The permutation of a shader by element type.
fn variant(element: Element) -> String {
    format!("ELEMENT={}", element.name())
}

/// Workgroups of 256 invocations that own a word of packed weights each.
fn word_grid(element: Element, count: usize) -> [u32; 3] {
    crate::kernels::flat_grid((count * element.size()).div_ceil(4), 256)
}

/// Weights whose bits fill whole words of the mask and of the packed weights: what one task of a CPU twin treats.
const PIECE: usize = 1 << 14;
