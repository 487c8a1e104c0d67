//! Kernels of the activation functions, plain and gated.

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[];
