//! Kernels of RMSNorm and LayerNorm. One workgroup treats one row; the statistics that backward needs are computed again
//! from the input rather than kept.

pub mod layer_backward;
pub mod layer_forward;
pub mod rms_backward;
pub mod rms_forward;

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] =
    &[layer_backward::KERNEL, layer_forward::KERNEL, rms_backward::KERNEL, rms_forward::KERNEL];

/// The permutation for rows of this width: short rows (a head's) would leave most of a large workgroup idle.
fn variant(width: usize) -> &'static str {
    if width <= 256 { "WG_SIZE=64" } else { "WG_SIZE=256" }
}
