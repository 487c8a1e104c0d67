//! A model's weights with some heads' part of the output projection scaled.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::Head;
use crate::model::parameters::Layout;
use crate::model::weights::{HostBytes, WeightSource};
use crate::model::{Model, Parameter, Stage};
use crate::unlearn::selection::{Axis, Granularity, Grouping, Heads};
use crate::{Element, Error, Result};

/// The chosen heads of an output projection.
#[derive(Clone, Debug)]
struct Chosen {
    /// The mask of the weights that belong to them.
    mask: Vec<u32>,
    /// How many these are.
    count: u64,
}

/// The weights of a base in which the chosen heads' columns of the output projection (rows, where it is stored `[in, out]`) are
/// multiplied by `1 − strength`: computed when they are asked for, in double precision, and rounded once.
pub struct ScaledHeads {
    base: Arc<dyn WeightSource>,
    /// By the parameter's name.
    chosen: HashMap<String, Chosen>,
    strength: f64,
    /// What was made: a large tensor is asked for slice by slice, and every pass asks again.
    made: Mutex<HashMap<String, Arc<Vec<u8>>>>,
}

impl std::fmt::Debug for ScaledHeads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScaledHeads").field("strength", &self.strength).finish_non_exhaustive()
    }
}

impl ScaledHeads {
    /// The weights of `base` without `heads`, as far as `strength` says: 1 takes all of them.
    ///
    /// # Errors
    /// When the strength is out of range or a head is none of the model's.
    pub fn new(base: Arc<dyn WeightSource>, model: &Model, heads: &[Head], strength: f64) -> Result<Self> {
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(Error::argument(format!("a strength is above 0 and up to 1, not {strength}")));
        }
        let mut by_stage: HashMap<usize, BTreeSet<usize>> = HashMap::new();
        for head in heads {
            by_stage.entry(head.stage).or_default().insert(head.head);
        }
        let mut chosen = HashMap::new();
        for (stage, heads) in by_stage {
            let Some(Stage::Attention(block)) = model.stages.get(stage) else {
                return Err(Error::argument(format!("stage {stage} has no attention heads")));
            };
            if let Some(head) = heads.iter().find(|head| **head >= block.heads.heads) {
                return Err(Error::argument(format!("the model has no head {head} in stage {stage}")));
            }
            let parameter = &model.parameters[block.output.weight];
            let axis = if block.output.layout == Layout::OutIn { Axis::Columns } else { Axis::Rows };
            let shape = Some(Heads { dim: block.heads.head_dim, axis });
            let grouping = Grouping::new(Granularity::Head, &parameter.shape, shape)?;
            let count = (heads.len() * grouping.group_size()) as u64;
            chosen.insert(parameter.name.clone(), Chosen { mask: grouping.mask(|head| heads.contains(&head)), count });
        }
        Ok(ScaledHeads { base, chosen, strength, made: Mutex::default() })
    }

    /// For each parameter how many of its weights belong to the heads, and which, where some do.
    pub fn selected(&self, model: &Model) -> Vec<(u64, Option<&[u32]>)> {
        let of = |parameter: &Parameter| match self.chosen.get(&parameter.name) {
            Some(chosen) => (chosen.count, Some(&chosen.mask[..])),
            None => (0, None),
        };
        model.parameters.iter().map(of).collect()
    }
}

impl WeightSource for ScaledHeads {
    fn tensor(&self, parameter: &Parameter) -> Result<(Element, HostBytes)> {
        let (element, old) = self.base.tensor(parameter)?;
        let Some(Chosen { mask, .. }) = self.chosen.get(&parameter.name) else { return Ok((element, old)) };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = made.get(&parameter.name) {
            return Ok((element, bytes.clone()));
        }
        let mut values = vec![0.0; parameter.count()];
        element.decode(&old, &mut values)?;
        let scale = 1.0 - self.strength;
        let chosen = values.iter_mut().enumerate().filter(|(i, _)| mask[i / 32] >> (i % 32) & 1 == 1);
        chosen.for_each(|(_, value)| *value = (f64::from(*value) * scale) as f32);
        let bytes = Arc::new(element.encode(&values));
        made.insert(parameter.name.clone(), bytes.clone());
        Ok((element, bytes))
    }

    fn element(&self, parameter: &Parameter) -> Result<Element> {
        self.base.element(parameter)
    }

    fn device_bytes(&self) -> u64 {
        self.base.device_bytes()
    }
}
