//! Kernels that treat every element alike.

pub mod add;

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[add::KERNEL];

pub mod broadcast_rows;
