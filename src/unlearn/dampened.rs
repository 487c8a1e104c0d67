//! Weights with a dampening on top, made whenever they are read: how an edit is tried before anything is written.

use std::sync::{Arc, Mutex, PoisonError};

use super::edit::{Comparison, Dampening};
use crate::device::Device;
use crate::model::weights::{HostBytes, WeightSource};
use crate::model::{Parameter, ParameterId};
use crate::{Element, Result};

/// A model's weights with a dampening on top, computed whenever they are read: nothing of the edited model is stored.
#[derive(Debug)]
pub struct DampenedWeights {
    base: Arc<dyn WeightSource>,
    comparison: Arc<Comparison>,
    dampening: Dampening,
    device: Device,
    /// The tensor that was made last: a large one is asked for slice by slice.
    last: Mutex<Option<(ParameterId, Arc<Vec<u8>>)>>,
}

impl DampenedWeights {
    /// The weights of `base` with `dampening`, made on `device`.
    pub fn new(
        base: Arc<dyn WeightSource>,
        comparison: Arc<Comparison>,
        dampening: Dampening,
        device: &Device,
    ) -> Self {
        DampenedWeights { base, comparison, dampening, device: device.clone(), last: Mutex::default() }
    }
}

impl WeightSource for DampenedWeights {
    fn tensor(&self, parameter: &Parameter) -> Result<(Element, HostBytes)> {
        let (element, bytes) = self.base.tensor(parameter)?;
        let id = self.comparison.model.parameters.iter().position(|p| p.name == parameter.name);
        let Some(id) = id.filter(|id| self.comparison.may_change(*id)) else {
            return Ok((element, bytes));
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, made)) = last.as_ref().filter(|(of, _)| *of == id) {
            return Ok((element, made.clone()));
        }
        *last = None;
        let Some(edited) = self.comparison.dampen(&self.device, id, (element, &bytes), self.dampening)? else {
            return Ok((element, bytes));
        };
        let made = Arc::new(edited.bytes);
        *last = Some((id, made.clone()));
        Ok((element, made))
    }

    fn element(&self, parameter: &Parameter) -> Result<Element> {
        self.base.element(parameter)
    }

    fn device_bytes(&self) -> u64 {
        let model = &self.comparison.model;
        let allowed: Vec<bool> = (0..model.parameters.len()).map(|id| self.comparison.may_change(id)).collect();
        self.base.device_bytes() + Comparison::device_bytes(model, &allowed, &self.device)
    }
}
