//! Kernels of embedding tables, tied to the head or not.

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[];
