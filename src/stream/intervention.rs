//! Changing a pass on its way forward, at a layer's heads: to see what a head does without writing a weight.

use std::sync::Arc;

use super::objective::CrossEntropy;
use super::pass::{Pass, single_units};
use super::terms::{Progress, SampleLoss};
use crate::Result;
use crate::device::Buffer;
use crate::kernels::attention::Heads;
use crate::model::batch::Tokens;
use crate::model::sink::Context;

/// Changes the forward of [`Pass::losses_under`].
pub trait Intervention: Send + Sync {
    /// Bytes of device memory that it takes while a stage is visited, at most.
    fn device_bytes(&self) -> u64 {
        0
    }

    /// Changes what a layer's heads put out, `mixed` `[tokens, heads.width()]`, before the output projection takes it. `qkv`
    /// `[tokens, heads.qkv_width()]` is what they made it of. Stages are numbered as for an [`Observer`](super::Observer).
    ///
    /// # Errors
    /// When the device has no room or failed.
    fn heads(&self, context: &Context<'_>, stage: usize, heads: Heads, qkv: &Buffer, mixed: &Buffer) -> Result<()>;
}

impl Pass {
    /// The losses of samples, forward only, under an intervention.
    ///
    /// # Errors
    /// As [`Pass::losses`], or when the intervention fails.
    pub fn losses_under(
        &self,
        intervention: &dyn Intervention,
        samples: &[Arc<Tokens>],
        progress: Progress<'_>,
    ) -> Result<Vec<SampleLoss>> {
        let units = single_units(samples);
        self.check(&units)?;
        let plan = self.observation_plan(samples, intervention.device_bytes())?;
        let (loader, rotary) = (self.loader(plan.weights_resident), self.rotary(&units)?);
        let mut losses = Vec::with_capacity(samples.len());
        for number in 0..plan.groups.len() {
            let setting = (&plan, &loader, rotary.as_ref(), number);
            let mut group = self.group(setting, &units, &CrossEntropy, progress);
            group.intervention = Some(intervention);
            group.losses(&mut losses)?;
            self.device.free_scratch();
        }
        Ok(losses)
    }
}
