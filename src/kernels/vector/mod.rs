//! Kernels of vector parameters (biases, norm gains): their per-sample gradient is a sum of terms over the tokens.

pub mod importance;

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[importance::KERNEL];
