//! Kernels that treat every element alike.

pub mod add;
pub mod broadcast_rows;

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[add::KERNEL, broadcast_rows::KERNEL];
