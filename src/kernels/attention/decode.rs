#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    heads: super::Heads,
    scale: f32,
    batch: usize,
    capacity: usize,
    qkv: &Buffer,
    lengths: &Buffer,
    keys: &Buffer,
    values: &Buffer,
    out: &Buffer,
) -> Result<()> {
    Ok(())
}
