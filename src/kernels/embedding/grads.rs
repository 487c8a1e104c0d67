#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    tokens: std::ops::Range<usize>,
    ids: &Buffer,
    delta: Window<'_>,
    columns: usize,
    first_row: usize,
    slice_rows: usize,
    grads: &Buffer,
) -> Result<()> {
    Ok(())
}
