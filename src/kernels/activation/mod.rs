//! Kernels of the activation functions, plain and gated.

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[];

pub mod backward;
pub mod forward;
pub mod gated_backward;
pub mod gated_forward;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Gelu,
    GeluTanh,
    Silu,
    Relu,
}
