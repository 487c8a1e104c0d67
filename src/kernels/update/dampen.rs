#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    count: usize,
    element: crate::Element,
    weights: &Buffer,
    mask: &Buffer,
    forget: &Buffer,
    forget_scale: f32,
    retain: &Buffer,
    retain_scale: f32,
    blend: f32,
    lambda: f32,
) -> Result<()> {
    Ok(())
}
