#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    heads: super::Heads,
    scale: f32,
    tokens: usize,
    tiles: super::Tiles<'_>,
    qkv: &Buffer,
    d_out: &Buffer,
    log_sums: &Buffer,
    row_dots: &Buffer,
    d_qkv: &Buffer,
) -> Result<()> {
    Ok(())
}
