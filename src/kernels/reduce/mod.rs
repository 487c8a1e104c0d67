//! Kernels that reduce a buffer to a few numbers.

pub mod square_sum;

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[square_sum::KERNEL];
