//! Kernels of RMSNorm and LayerNorm.

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[];
