//! `partials[b] = Σ x[i]²` over fixed blocks of `x`, for the norms of per-sample gradients. The host adds the partials in
//! float64.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::tuning::reduction;
use crate::kernels::{Cost, Kernel, Real, flat_grid, index, launch, simd};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel { name: "reduce/square_sum", summary: "sum of squares, one partial for each block" };

kernel_params! {
    /// The shader's parameters.
    Params = REDUCE_SQUARE_SUM {
        /// Elements of `x`.
        count: u32,
    }
}

/// Elements of `x` in a block: `BLOCK` of the shader.
const BLOCK: usize = 4096;

/// How many partials `count` elements have.
pub fn partial_count(count: usize) -> usize {
    count.div_ceil(BLOCK)
}

/// Writes the sums of squares of the first `count` elements of `x` to `partials` `[partial_count(count)]`.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(device: &Device, count: usize, x: &Buffer, partials: &Buffer) -> Result<()> {
    let params = Params { count: index(count)? };
    let variant = format!("REDUCTION={}", reduction(device, KERNEL.name, partial_count(count), BLOCK));
    launch(device, KERNEL.name, &variant, &params, &[x, partials], flat_grid(count, BLOCK), cost(&params), |buffers| {
        cpu(&params, &buffers.read(1), &mut buffers.write(2));
    })
}

/// What one launch costs.
pub fn cost(params: &Params) -> Cost {
    let count = params.count as usize;
    Cost { bytes: 4 * (count + partial_count(count)) as u64, operations: 2 * count as u64 }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, x: &[R], partials: &mut [R]) {
    for (partial, block) in partials.iter_mut().zip(x[..params.count as usize].chunks(BLOCK)) {
        *partial = R::default();
        for x in block {
            *partial += *x * *x;
        }
    }
}

/// The fast form on the CPU.
pub fn cpu(params: &Params, x: &[f32], partials: &mut [f32]) {
    // As many sums at a time as keep the processor's adders busy.
    const LANES: usize = 64;
    let blocks = x[..params.count as usize].par_chunks(BLOCK);
    partials.par_iter_mut().zip(blocks).with_min_len(4).for_each(|(partial, block)| {
        *partial = simd::wide(|| {
            let mut sums = [0.0f32; LANES];
            let (groups, rest) = block.as_chunks::<LANES>();
            for group in groups {
                for (sum, x) in sums.iter_mut().zip(group) {
                    *sum += x * x;
                }
            }
            for (sum, x) in sums.iter_mut().zip(rest) {
                *sum += x * x;
            }
            sums.iter().sum()
        });
    });
}
