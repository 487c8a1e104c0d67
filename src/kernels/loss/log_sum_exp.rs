#![allow(missing_docs, unused)]
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
pub fn run(
    device: &Device,
    tokens: usize,
    width: usize,
    first_column: usize,
    logits: &Buffer,
    targets: &Buffer,
    state: &Buffer,
) -> Result<()> {
    Ok(())
}
