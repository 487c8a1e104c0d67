//! A model's weights with changes of low rank on top.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use faer::{Mat, Scale};

use super::covariance::Site;
use super::solve::Factors;
use crate::model::parameters::Layout;
use crate::model::weights::{HostBytes, WeightSource};
use crate::model::{Model, Parameter, ParameterId};
use crate::{Element, Result};

/// A change of one matrix.
#[derive(Clone, Debug)]
pub struct Change {
    /// Where.
    pub site: Site,
    /// ΔW as the layer applies it, whatever the order of storage.
    pub factors: Factors,
}

/// The weights of a base with `scale` times the changes on top: made when they are asked for, in double precision, and
/// rounded once to the stored type.
pub struct RedirectedWeights {
    base: Arc<dyn WeightSource>,
    /// Parameters by name.
    changes: HashMap<String, Arc<Change>>,
    scale: f64,
    /// What was made: a large tensor is asked for slice by slice, and every pass asks again.
    made: Mutex<HashMap<String, Arc<Vec<u8>>>>,
}

impl std::fmt::Debug for RedirectedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedirectedWeights").field("scale", &self.scale).finish_non_exhaustive()
    }
}

impl RedirectedWeights {
    /// The weights of `base` with `scale` times the `changes`, of which each is of another matrix.
    pub fn new(base: Arc<dyn WeightSource>, model: &Model, changes: &[Arc<Change>], scale: f64) -> Self {
        let named = |change: &Arc<Change>| (model.parameters[change.site.parameter].name.clone(), change.clone());
        RedirectedWeights { base, changes: changes.iter().map(named).collect(), scale, made: Mutex::default() }
    }

    /// For each parameter how many elements may differ.
    pub fn selected(model: &Model, changes: &[Arc<Change>]) -> Vec<u64> {
        let changed = |id: ParameterId| changes.iter().any(|change| change.site.parameter == id);
        let count = |(id, p): (ParameterId, &Parameter)| if changed(id) { p.count() as u64 } else { 0 };
        model.parameters.iter().enumerate().map(count).collect()
    }

    fn make(&self, change: &Change, element: Element, old: &[u8]) -> Result<Vec<u8>> {
        let Change { site, factors } = change;
        let mut values = vec![0.0; site.inputs * site.outputs];
        element.decode(old, &mut values)?;
        // Row by row as stored: the transpose's columns lie one after the other.
        let stored: Mat<f64> = match site.layout {
            Layout::OutIn => &factors.right * (factors.left.transpose() * Scale(self.scale)),
            Layout::InOut => &factors.left * (factors.right.transpose() * Scale(self.scale)),
        };
        for (row, column) in values.chunks_exact_mut(stored.nrows()).zip(stored.col_iter()) {
            row.iter_mut().zip(column.iter()).for_each(|(value, change)| *value = (f64::from(*value) + change) as f32);
        }
        Ok(element.encode(&values))
    }
}

impl WeightSource for RedirectedWeights {
    fn tensor(&self, parameter: &Parameter) -> Result<(Element, HostBytes)> {
        let (element, old) = self.base.tensor(parameter)?;
        let Some(change) = self.changes.get(&parameter.name) else { return Ok((element, old)) };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = made.get(&parameter.name) {
            return Ok((element, bytes.clone()));
        }
        let bytes = Arc::new(self.make(change, element, &old)?);
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
