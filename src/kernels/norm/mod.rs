//! Kernels of RMSNorm and LayerNorm.

pub mod layer_backward;
pub mod layer_forward;
pub mod rms_backward;
pub mod rms_forward;

use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] =
    &[layer_backward::KERNEL, layer_forward::KERNEL, rms_backward::KERNEL, rms_forward::KERNEL];

/// A mutable buffer whose disjoint rows are written by several threads.
#[derive(Clone, Copy)]
struct Rows(*mut f32);

// SAFETY: the kernels of this family hand every row to exactly one thread.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

impl Rows {
    /// The `width` numbers from `first` on.
    ///
    /// # Safety
    /// The range lies within the buffer and no other thread has a part of it.
    unsafe fn row<'a>(self, first: usize, width: usize) -> &'a mut [f32] {
        // SAFETY: passed on to the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(first), width) }
    }
}

/// Calls `row(r, out)` for every row, in parallel; `out` is the row's window in `out`.
fn for_rows(
    rows: usize,
    out: &mut [f32],
    place: impl Fn(usize) -> usize + Sync,
    width: usize,
    row: impl Fn(usize, &mut [f32]) + Sync,
) {
    use rayon::prelude::*;
    let length = out.len();
    let target = Rows(out.as_mut_ptr());
    (0..rows).into_par_iter().with_min_len(16).for_each(|r| {
        let first = place(r);
        assert!(first + width <= length, "a row outside of the buffer");
        // SAFETY: the range was checked, and windows of different rows do not overlap.
        let out = unsafe { target.row(first, width) };
        row(r, out);
    });
}
