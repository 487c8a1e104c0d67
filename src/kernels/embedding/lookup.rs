#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    tokens: usize,
    ids: &Buffer,
    first_row: usize,
    table: Matrix<'_>,
    y: Window<'_>,
    accumulate: bool,
) -> Result<()> {
    Ok(())
}
