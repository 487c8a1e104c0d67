#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    tokens: usize,
    x: Window<'_>,
    w: Matrix<'_>,
    y: Window<'_>,
    accumulate: bool,
) -> Result<()> {
    Ok(())
}
