#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    index: &super::RowIndex,
    first_row: usize,
    slice_rows: usize,
    delta: Window<'_>,
    activation: Window<'_>,
    columns: usize,
    head_rows: &Buffer,
) -> Result<()> {
    Ok(())
}
