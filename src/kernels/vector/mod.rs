//! Kernels of vector parameters (biases, norm gains): their per-sample gradient is a sum of terms over the tokens.

pub mod grads;
pub mod importance;

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[grads::KERNEL, importance::KERNEL];
