//! faer's matrix product on row-major windows: the one place where the CPU twins meet the linear algebra library.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// A row-major `[rows, columns]` view with `stride` elements from row to row.
pub(crate) fn view(values: &[f32], rows: usize, columns: usize, stride: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice_with_stride(values, rows, columns, stride)
}

/// As [`view`], for writing.
pub(crate) fn view_mut(values: &mut [f32], rows: usize, columns: usize, stride: usize) -> MatMut<'_, f32> {
    // faer 0.24's own row-major constructor for strided mutable slices swaps the strides.
    MatMut::from_column_major_slice_with_stride_mut(values, columns, rows, stride).transpose_mut()
}

/// `out = a b`, or `out += a b`, on all threads of the current pool or, where `parallel` is false, on this one.
pub(crate) fn product(out: MatMut<'_, f32>, accumulate: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>, parallel: bool) {
    let start = if accumulate { Accum::Add } else { Accum::Replace };
    matmul(out, start, a, b, 1.0, if parallel { Par::rayon(0) } else { Par::Seq });
}
