//! The soft knob as an intervention: many variants of a model in one pass, each with heads of its own that are pulled.

use std::collections::BTreeMap;

use super::Head;
use crate::device::Buffer;
use crate::kernels::attention::{Heads, identity_pull};
use crate::model::sink::Context;
use crate::model::{Model, Stage};
use crate::stream::Intervention;
use crate::{Error, Result};

/// Variants of a model in which some heads' attention maps are pulled towards the identity.
#[derive(Clone, Debug)]
pub struct SoftHeads {
    /// For each stage with a pulled head the knobs `[variants, heads]`.
    knobs: BTreeMap<usize, Vec<f32>>,
    /// Samples of a variant: sample n of the pass belongs to variant n / samples.
    samples: usize,
}

impl SoftHeads {
    /// In variant v the heads `variants[v]` are pulled by `knob`, 0 to 1: A' = (1 − u) A + u I. Samples are numbered variant
    /// by variant, `samples` of each.
    ///
    /// # Errors
    /// When the knob is out of range, a variant has no sample, or a head is none of the model's.
    pub fn new(model: &Model, variants: &[Vec<Head>], knob: f64, samples: usize) -> Result<Self> {
        if !(knob > 0.0 && knob <= 1.0) {
            return Err(Error::argument(format!("a knob is above 0 and up to 1, not {knob}")));
        }
        if samples == 0 {
            return Err(Error::argument("a variant has at least one sample"));
        }
        let mut knobs: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        for (variant, heads) in variants.iter().enumerate() {
            for Head { stage, head, .. } in heads {
                let count = match model.stages.get(*stage) {
                    Some(Stage::Attention(block)) if *head < block.heads.heads => block.heads.heads,
                    _ => return Err(Error::argument(format!("the model has no head {head} in stage {stage}"))),
                };
                let table = knobs.entry(*stage).or_insert_with(|| vec![0.0; variants.len() * count]);
                table[variant * count + head] = knob as f32;
            }
        }
        Ok(SoftHeads { knobs, samples })
    }
}

impl Intervention for SoftHeads {
    fn device_bytes(&self) -> u64 {
        self.knobs.values().map(|table| table.len() as u64 * 4).max().unwrap_or(0)
    }

    fn heads(&self, context: &Context<'_>, stage: usize, heads: Heads, qkv: &Buffer, mixed: &Buffer) -> Result<()> {
        let Some(table) = self.knobs.get(&stage) else { return Ok(()) };
        let knobs = context.device.upload_new(table)?;
        let keys = &context.batch.keys;
        identity_pull::run(context.device, heads, context.tokens(), self.samples, (&knobs, keys), qkv, mixed)
    }
}
