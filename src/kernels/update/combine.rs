//! One importance of those of several forms: their mean, their geometric mean, or the one of a rank.

use rayon::prelude::*;

use super::{PIECE, elements, importance, product};
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, flat_grid, index, launch};
use crate::{Error, Result};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "update/combine", summary: "mean, geometric mean or rank of several forms' importances" };

kernel_params! {
    /// The shader's parameters.
    Params = UPDATE_COMBINE {
        /// Number of weights.
        count: u32,
        /// Number of forms.
        forms: u32,
        /// Ranked: 1 is the largest.
        rank: u32,
    }
}

/// What several importances of a weight come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Their mean.
    Mean,
    /// Their geometric mean: 0 where one of them is.
    Geometric,
    /// The one of this rank, 1 for the largest.
    Ranked(usize),
}

/// What an importance is where one of the forms' is none.
const INVALID: f32 = -1.0;

/// Writes into `combined` (`[count]`) what `forms` (`[forms, count]`, the stored sums) times their `scales` (`[forms]`, which
/// make means of the sums) come to for each weight; -1 where one of them is negative or not finite. As in the whole
/// [family](super), importances below 2^-125 count as zero. Mean and rank have the same bits on every device; the geometric
/// mean is within 1e-6 of the exact one.
///
/// # Errors
/// When there are more than [`MAX_COUNT`](super::MAX_COUNT) weights or no form, the rank is not one of the forms', a buffer is
/// too small or the device failed.
pub fn run(
    device: &Device,
    count: usize,
    forms: usize,
    how: How,
    sums: &Buffer,
    scales: &Buffer,
    combined: &Buffer,
) -> Result<()> {
    let (variant, rank) = match how {
        How::Mean => ("HOW=mean", 1),
        How::Geometric => ("HOW=geometric", 1),
        How::Ranked(rank) => ("HOW=ranked", rank),
    };
    if rank == 0 || rank > forms {
        return Err(Error::argument(format!("{forms} forms have no importance of the rank {rank}")));
    }
    // Places in the stack of all forms must be numbers of the shader, too.
    elements(count * forms)?;
    let params = Params { count: elements(count)?, forms: index(forms)?, rank: index(rank)? };
    let buffers = [sums, scales, combined];
    launch(device, KERNEL.name, variant, &params, &buffers, flat_grid(count, 256), cost(&params), |buffers| {
        cpu(&params, how, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let (count, forms) = (u64::from(params.count), u64::from(params.forms));
    Cost { bytes: 4 * count * (forms + 1), operations: 4 * count * forms }
}

/// What the importances of one weight come to.
fn combine(how: How, forms: usize, of_form: impl Fn(usize) -> Option<f32>) -> f32 {
    if (0..forms).any(|k| of_form(k).is_none()) {
        return INVALID;
    }
    let of_form = |k: usize| of_form(k).unwrap_or_default();
    match how {
        How::Mean => product((0..forms).map(of_form).fold(0.0, |sum, value| sum + value), 1.0 / forms as f32),
        How::Geometric => geometric(forms, of_form),
        How::Ranked(rank) => {
            let is_ranked = |value: f32| {
                let count = |of: &dyn Fn(f32) -> bool| (0..forms).filter(|k| of(of_form(*k))).count();
                count(&|other| other > value) < rank && count(&|other| other >= value) >= rank
            };
            (0..forms).map(of_form).find(|value| is_ranked(*value)).unwrap_or_default()
        }
    }
}

/// Exponents are summed as integers, so that the logarithms of fractions keep all their digits.
fn geometric(forms: usize, of_form: impl Fn(usize) -> f32) -> f32 {
    let (mut exponents, mut logarithms) = (0i32, 0.0f32);
    for bits in (0..forms).map(|k| of_form(k).to_bits()) {
        if bits == 0 {
            return 0.0;
        }
        exponents += (bits >> 23) as i32 - 127;
        logarithms += f32::from_bits(bits & 0x007f_ffff | 1.0f32.to_bits()).log2();
    }
    let whole = exponents.div_euclid(forms as i32);
    let rest = ((exponents - whole * forms as i32) as f32 + logarithms) / forms as f32;
    product(rest.exp2(), f32::from_bits(((whole + 127) as u32) << 23))
}

/// The shader's loop, plainly.
pub fn reference(params: &Params, how: How, sums: &[f32], scales: &[f32], combined: &mut [f32]) {
    let (count, forms) = (params.count as usize, params.forms as usize);
    for i in 0..count {
        combined[i] = combine(how, forms, |k| importance(sums[k * count + i], scales[k]));
    }
}

/// The fast form on the CPU: pieces in parallel.
fn cpu(params: &Params, how: How, sums: &[f32], scales: &[f32], combined: &mut [f32]) {
    let (count, forms) = (params.count as usize, params.forms as usize);
    combined[..count].par_chunks_mut(PIECE).enumerate().for_each(|(piece, combined)| {
        for (i, combined) in (piece * PIECE..).zip(combined) {
            *combined = combine(how, forms, |k| importance(sums[k * count + i], scales[k]));
        }
    });
}
