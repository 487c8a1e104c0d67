//! The importance of a bias or gain: `f = accumulate over units n of G_n`, `G_n[i] = Σ terms[row, i]` over the unit's rows.

use rayon::prelude::*;

use super::{Terms, column_grid};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::shader::kernel_params;
use crate::kernels::{Accumulate, Cost, Kernel, Real, Segments, Window, index, launch, simd};

/// How the registry lists it.
pub const KERNEL: Kernel =
    Kernel { name: "vector/importance", summary: "importance of a bias or gain from its per-unit gradients" };

kernel_params! {
    /// The shader's parameters.
    Params = VECTOR_IMPORTANCE {
        /// Units that have a gradient.
        units: u32,
        /// Rows of `terms` for each token.
        rows_per_token: u32,
        /// Elements of the vector.
        width: u32,
        /// Elements from one row of `terms` to the next.
        terms_stride: u32,
        /// First column of `terms`.
        terms_offset: u32,
    }
}

/// Accumulates the gradients of all `segments` into `importance` `[width]`, in order, from the stored values on. A token
/// has `rows_per_token` rows of `terms`: more than one where its heads share a gain.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    accumulate: Accumulate,
    segments: Segments<'_>,
    rows_per_token: usize,
    terms: Window<'_>,
    width: usize,
    importance: &Buffer,
) -> Result<()> {
    let params = Params {
        units: index(segments.count)?,
        rows_per_token: index(rows_per_token)?,
        width: index(width)?,
        terms_stride: index(terms.stride)?,
        terms_offset: index(terms.offset)?,
    };
    let variant = format!("ACCUMULATE={}", accumulate.name());
    let buffers = [segments.offsets, terms.buffer, importance];
    launch(
        device,
        KERNEL.name,
        &variant,
        &params,
        &buffers,
        column_grid(width),
        cost(&params, segments.tokens),
        |buffers| {
            cpu(&params, accumulate, &buffers.read(1), &buffers.read(2), &mut buffers.write(3));
        },
    )
}

/// What one launch on `tokens` tokens costs.
pub fn cost(params: &Params, tokens: usize) -> Cost {
    let [units, width] = [params.units, params.width].map(u64::from);
    let rows = tokens as u64 * u64::from(params.rows_per_token);
    Cost { bytes: 4 * (units + 1 + (rows + 2) * width), operations: (rows + 2 * units) * width }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(params: &Params, accumulate: Accumulate, offsets: &[u32], terms: &[R], importance: &mut [R]) {
    let p = params;
    for i in 0..p.width {
        let mut f = importance[i as usize];
        for n in 0..p.units as usize {
            let mut g = R::default();
            for row in offsets[n] * p.rows_per_token..offsets[n + 1] * p.rows_per_token {
                g += terms[(row * p.terms_stride + p.terms_offset + i) as usize];
            }
            f += match accumulate {
                Accumulate::Square => g * g,
                Accumulate::Magnitude => g.abs(),
                Accumulate::Sum => g,
            };
        }
        importance[i as usize] = f;
    }
}

/// Columns that one task sums.
const PIECE: usize = 64;

/// The fast form on the CPU.
pub fn cpu(params: &Params, accumulate: Accumulate, offsets: &[u32], terms: &[f32], importance: &mut [f32]) {
    let per_token = params.rows_per_token as usize;
    let terms = Terms { values: terms, stride: params.terms_stride as usize, offset: params.terms_offset as usize };
    let units = &offsets[..=params.units as usize];
    importance[..params.width as usize].par_chunks_mut(PIECE).enumerate().for_each(|(piece, importance)| {
        simd::wide(|| {
            let mut sums = [0.0; PIECE];
            let sums = &mut sums[..importance.len()];
            for unit in units.windows(2) {
                let [start, end] = [unit[0] as usize, unit[1] as usize];
                terms.sum(start * per_token..end * per_token, piece * PIECE, sums);
                for (f, g) in importance.iter_mut().zip(&*sums) {
                    *f += match accumulate {
                        Accumulate::Square => g * g,
                        Accumulate::Magnitude => g.abs(),
                        Accumulate::Sum => *g,
                    };
                }
            }
        });
    });
}
