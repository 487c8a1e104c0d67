//! Kernels of causal attention with grouped heads, and of its rotary embedding.

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[];
