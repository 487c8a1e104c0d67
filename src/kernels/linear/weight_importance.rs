#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    accumulate: Accumulate,
    segments: Segments<'_>,
    left: Window<'_>,
    right: Window<'_>,
    rows: usize,
    columns: usize,
    importance: &Buffer,
) -> Result<()> {
    Ok(())
}
