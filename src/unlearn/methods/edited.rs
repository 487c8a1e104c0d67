//! Weights from a source as an edit of the stored ones.

use std::sync::Arc;

use crate::device::Device;
use crate::model::weights::WeightSource;
use crate::model::{Model, ParameterId};
use crate::unlearn::edit::{Edit, Edited, differing};
use crate::{Element, Error, Result};

/// An edited model's weights, and how many elements of each parameter could change.
pub struct EditedWeights {
    /// The model.
    pub model: Arc<Model>,
    /// Its weights with the edit.
    pub weights: Arc<dyn WeightSource>,
    /// For each parameter how many elements were selected; a parameter without is left as it is.
    pub selected: Vec<u64>,
}

impl std::fmt::Debug for EditedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EditedWeights").field("selected", &self.selected).finish_non_exhaustive()
    }
}

impl Edit for EditedWeights {
    fn edit(&self, _: &Device, id: ParameterId, (element, old): (Element, &[u8])) -> Result<Option<Edited>> {
        if self.selected[id] == 0 {
            return Ok(None);
        }
        let parameter = &self.model.parameters[id];
        let (made, bytes) = self.weights.tensor(parameter)?;
        if made != element || bytes.len() != old.len() {
            return Err(Error::Device(format!("{}: the edit's type or size is not the stored one", parameter.name)));
        }
        let bytes = bytes.to_vec();
        let changed = differing(element, old, &bytes);
        Ok(Some(Edited { changed, selected: self.selected[id], low_rank: self.weights.low_rank(parameter), bytes }))
    }
}
