//! Kernels that choose and change weights.

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[];

pub mod dampen;
pub mod log_ratio_histogram;
pub mod select;
