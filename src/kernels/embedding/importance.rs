#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    accumulate: Accumulate,
    index: &super::RowIndex,
    delta: Window<'_>,
    columns: usize,
    first_row: usize,
    slice_rows: usize,
    importance: &Buffer,
) -> Result<()> {
    Ok(())
}
