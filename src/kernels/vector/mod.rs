//! Kernels of vector parameters (biases, norm gains): their per-sample gradient is a sum of terms over the tokens.

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[];

pub mod grads;
pub mod importance;
