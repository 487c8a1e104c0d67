//! Kernels of RMSNorm and LayerNorm. One workgroup treats one row; the statistics that backward needs are computed again
//! from the input rather than kept.

pub mod layer_backward;
pub mod layer_forward;
pub mod rms_backward;
pub mod rms_forward;

use crate::device::Device;
use crate::kernels::Kernel;
use crate::kernels::tuning::reduction;

/// The family's kernels.
pub const KERNELS: &[Kernel] =
    &[layer_backward::KERNEL, layer_forward::KERNEL, rms_backward::KERNEL, rms_forward::KERNEL];

/// The permutation for rows of this width: short rows (a head's) would leave most of a large workgroup idle.
fn variant(device: &Device, kernel: &'static str, rows: usize, width: usize) -> String {
    let size = if width <= 256 { 64 } else { 256 };
    format!("WG_SIZE={size},REDUCTION={}", reduction(device, kernel, rows, width))
}
