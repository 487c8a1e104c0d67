#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    tokens: usize,
    heads: usize,
    head_dim: usize,
    table: &Buffer,
    positions: &Buffer,
    x: Window<'_>,
    inverse: bool,
) -> Result<()> {
    Ok(())
}
