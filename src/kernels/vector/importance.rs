#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    accumulate: Accumulate,
    segments: Segments<'_>,
    rows_per_token: usize,
    terms: Window<'_>,
    width: usize,
    importance: &Buffer,
) -> Result<()> {
    Ok(())
}
