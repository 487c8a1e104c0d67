#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    tokens: std::ops::Range<usize>,
    rows_per_token: usize,
    terms: Window<'_>,
    width: usize,
    grads: &Buffer,
) -> Result<()> {
    Ok(())
}
