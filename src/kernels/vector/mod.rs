//! Kernels of vector parameters (biases, norm gains): their per-sample gradient is a sum of terms over the tokens.

pub mod grads;
pub mod importance;

use std::ops::Range;

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[grads::KERNEL, importance::KERNEL];

/// Workgroups for `width` columns; one owns as many columns as `COLUMNS` of `shaders/shared/column_sums.wgsl` says.
fn column_grid(width: usize) -> [u32; 3] {
    const COLUMNS: usize = 32;
    [width.div_ceil(COLUMNS) as u32, 1, 1]
}

/// Rows of terms, on the CPU.
struct Terms<'a> {
    values: &'a [f32],
    stride: usize,
    offset: usize,
}

impl Terms<'_> {
    /// Writes the sums over `rows` of the columns from `first` on.
    #[inline(always)]
    fn sum(&self, rows: Range<usize>, first: usize, sums: &mut [f32]) {
        sums.fill(0.0);
        for row in rows {
            let terms = &self.values[row * self.stride + self.offset + first..][..sums.len()];
            for (sum, term) in sums.iter_mut().zip(terms) {
                *sum += term;
            }
        }
    }
}
