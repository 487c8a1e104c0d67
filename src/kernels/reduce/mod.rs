//! Kernels that reduce a buffer to a few numbers.

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[];

pub mod square_sum;
