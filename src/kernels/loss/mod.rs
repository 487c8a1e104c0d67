//! Kernels of cross-entropy over large vocabularies, a slice of the logits at a time.

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[];
