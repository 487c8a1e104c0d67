//! How many weights the forget set needs how much more than what they are compared with: a histogram on a logarithmic
//! scale, from which thresholds are read without sorting billions of ratios.

use rayon::prelude::*;

use super::{Comparison, PIECE, comparison, elements, ratio};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Cost, Kernel, launch};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "update/log_ratio_histogram", summary: "histogram of F_forget / F on a logarithmic scale" };

kernel_params! {
    /// The shader's parameters.
    Params = UPDATE_LOG_RATIO_HISTOGRAM {
        /// Number of weights.
        count: u32,
        /// Makes a mean of the forget set's sums.
        forget_scale: f32,
        /// Makes a mean of the retain set's sums.
        retain_scale: f32,
        /// The forget set's part in what is compared with.
        blend: f32,
    }
}

/// The bin of weights that neither set needs.
pub const EMPTY: usize = 0;
/// The bin of weights that the forget set does not need: ratio 0.
pub const ZERO: usize = 1;
/// The bin of ratios above 0 and below 2^-24.
pub const UNDERFLOW: usize = 2;
/// The first bin of an octave's 128th part.
pub const FIRST: usize = 3;
/// The bin of finite ratios from 2^36 on.
pub const OVERFLOW: usize = FIRST + ((LAST_EDGE - LEAST_EDGE) >> BELOW_BIN) as usize;
/// The bin of weights that only the forget set needs.
pub const INFINITE: usize = OVERFLOW + 1;
/// The bin of weights of which an importance is negative or not finite: dropped, but counted.
pub const INVALID: usize = OVERFLOW + 2;
/// Number of bins.
pub const BINS: usize = OVERFLOW + 3;

/// The bits of 2^-24 and 2^36, and the part of a fraction that lies below the upper 7 bits.
const LEAST_EDGE: u32 = 0x3380_0000;
const LAST_EDGE: u32 = 0x5180_0000;
const BELOW_BIN: u32 = 16;

/// Weights that a workgroup counts.
const WORKGROUP_PIECE: usize = 1 << 16;

/// The bin of a ratio of 0 or above, infinity included; [`INVALID`] for anything else.
///
/// ```
/// use efface::kernels::update::log_ratio_histogram::{ZERO, bin_of, lower_edge};
/// assert_eq!(bin_of(0.0), ZERO);
/// assert_eq!(lower_edge(bin_of(10.0)), Some(10.0));
/// assert_eq!(lower_edge(bin_of(10.04)), Some(10.0));
/// ```
pub fn bin_of(ratio: f32) -> usize {
    let bits = ratio.to_bits();
    match ratio {
        r if r.is_nan() || r < 0.0 => INVALID,
        0.0 => ZERO,
        f32::INFINITY => INFINITE,
        _ if bits < LEAST_EDGE => UNDERFLOW,
        _ if bits >= LAST_EDGE => OVERFLOW,
        _ => FIRST + ((bits - LEAST_EDGE) >> BELOW_BIN) as usize,
    }
}

/// The smallest ratio of a bin; `None` for the bins that are never selected ([`EMPTY`], [`ZERO`], [`INVALID`]).
pub fn lower_edge(bin: usize) -> Option<f32> {
    match bin {
        UNDERFLOW => Some(f32::from_bits(1)),
        FIRST..=OVERFLOW => Some(f32::from_bits(LEAST_EDGE + (((bin - FIRST) as u32) << BELOW_BIN))),
        INFINITE => Some(f32::INFINITY),
        _ => None,
    }
}

/// Adds `count` weights to `histogram` (`u32` `[BINS]`), by the ratio of `forget` and what it is compared with (see the
/// [family](super)). A count wraps around at 2^32: read the histogram before that many weights were added.
///
/// # Errors
/// When there are more than [`MAX_COUNT`](super::MAX_COUNT) weights, a scale or the blend is out of range, a buffer is too
/// small or the device failed.
pub fn run(
    device: &Device,
    count: usize,
    forget: &Buffer,
    forget_scale: f32,
    retain: &Buffer,
    retain_scale: f32,
    blend: f32,
    histogram: &Buffer,
) -> Result<()> {
    let comparison = comparison(forget_scale, retain_scale, blend)?;
    let params = Params { count: elements(count)?, forget_scale, retain_scale, blend };
    let workgroups = [count.div_ceil(WORKGROUP_PIECE) as u32, 1, 1];
    launch(device, KERNEL.name, "", &params, &[forget, retain, histogram], workgroups, cost(&params), |buffers| {
        cpu(&params, comparison, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
    })
}

/// What one launch costs: a division of integers counts as one operation, and there are three.
pub fn cost(params: &Params) -> Cost {
    let count = u64::from(params.count);
    Cost { bytes: 2 * 4 * count, operations: 20 * count }
}

/// The bin of a weight by its stored sums.
fn bin(comparison: Comparison, forget: f32, retain: f32) -> usize {
    match comparison.pair(forget, retain) {
        None => INVALID,
        Some((0.0, 0.0)) => EMPTY,
        Some((forget, compared)) => bin_of(ratio(forget, compared)),
    }
}

/// The shader's loop, plainly. Its result is exact, so there is no other precision to compare with.
pub fn reference(params: &Params, forget: &[f32], retain: &[f32], histogram: &mut [u32]) {
    let Params { forget_scale, retain_scale, blend, .. } = *params;
    for i in 0..params.count as usize {
        histogram[bin(Comparison { forget_scale, retain_scale, blend }, forget[i], retain[i])] += 1;
    }
}

/// The fast form on the CPU: pieces in parallel.
fn cpu(params: &Params, comparison: Comparison, forget: &[f32], retain: &[f32], histogram: &mut [u32]) {
    let count = params.count as usize;
    let pieces = forget[..count].par_chunks(PIECE).zip(retain[..count].par_chunks(PIECE));
    let counted = pieces
        .fold(
            || vec![0u32; BINS],
            |mut counts, (forget, retain)| {
                for (forget, retain) in forget.iter().zip(retain) {
                    counts[bin(comparison, *forget, *retain)] += 1;
                }
                counts
            },
        )
        .reduce(
            || vec![0u32; BINS],
            |mut sum, counts| {
                add(&mut sum, &counts);
                sum
            },
        );
    add(histogram, &counted);
}

fn add(sum: &mut [u32], counts: &[u32]) {
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum = sum.wrapping_add(*count);
    }
}
