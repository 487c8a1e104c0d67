#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    tokens: usize,
    heads: usize,
    width: usize,
    epsilon: f32,
    x: Window<'_>,
    gain: &Buffer,
    dy: Window<'_>,
    dx: Window<'_>,
    accumulate: bool,
    gain_terms: &Buffer,
) -> Result<()> {
    Ok(())
}
