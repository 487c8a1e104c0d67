//! Kernels that do nothing but reach a device's limits: what the others are measured against.

pub mod copy;
pub mod multiply_add;

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[copy::KERNEL, multiply_add::KERNEL];
