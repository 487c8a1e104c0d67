//! Watching a pass go forward: what enters the linear layers, and what the stages put out.

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::Window;
use crate::model::parameters::Linear;
use crate::model::sink::Context;

/// Watches the forward of [`Pass::observe`](super::Pass::observe). Between [`begin`](Observer::begin) and
/// [`end`](Observer::end) all chunks of a group visit a stage, in the order of their samples; a pass over several groups
/// visits every stage once for each. Stages are numbered as in [`Model::stages`](crate::model::Model): 0 is the embedding, layer l
/// has 2 l + 1 and 2 l + 2.
pub trait Observer {
    /// The last stage that is run. It must be a layer's.
    fn last_stage(&self) -> usize;

    /// Bytes of device memory that the observer holds while a stage is visited, at most.
    fn device_bytes(&self) -> u64 {
        0
    }

    /// A visit begins.
    ///
    /// # Errors
    /// When the device has no room or failed.
    fn begin(&mut self, _device: &Device, _stage: usize) -> Result<()> {
        Ok(())
    }

    /// A linear layer's input `[tokens, inputs]`.
    ///
    /// # Errors
    /// When the device has no room or failed.
    fn site(&mut self, _context: &Context<'_>, _stage: usize, _linear: &Linear, _x: Window<'_>) -> Result<()> {
        Ok(())
    }

    /// A stage's output `[tokens, hidden]`: the residual stream after it.
    ///
    /// # Errors
    /// When the device has no room or failed.
    fn output(&mut self, _context: &Context<'_>, _stage: usize, _y: &Buffer) -> Result<()> {
        Ok(())
    }

    /// The visit is over.
    ///
    /// # Errors
    /// When the device failed.
    fn end(&mut self, _device: &Device, _stage: usize) -> Result<()> {
        Ok(())
    }
}

/// Watches nothing.
pub(super) struct Unobserved;

impl Observer for Unobserved {
    fn last_stage(&self) -> usize {
        0
    }
}
