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
    out: &Buffer,
    log_sums: &Buffer,
) -> Result<()> {
    Ok(())
}
