//! Kernels of RMSNorm and LayerNorm.

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[];

pub mod layer_backward;
pub mod layer_forward;
pub mod rms_backward;
pub mod rms_forward;
