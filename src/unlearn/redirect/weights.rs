//! A model's weights with changes of low rank on top.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use faer::Mat;

use super::covariance::Site;
use super::solve::Factors;
use crate::checkpoint::LowRank;
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
    changes: HashMap<String, Arc<LowRank>>,
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
    ///
    /// # Errors
    /// When factors are not those of their matrix.
    pub fn new(base: Arc<dyn WeightSource>, model: &Model, changes: &[Arc<Change>], scale: f64) -> Result<Self> {
        let named = |change: &Arc<Change>| {
            Ok((model.parameters[change.site.parameter].name.clone(), Arc::new(stored(change, scale)?)))
        };
        let changes = changes.iter().map(named).collect::<Result<_>>()?;
        Ok(RedirectedWeights { base, changes, scale, made: Mutex::default() })
    }

    /// For each parameter how many elements may differ.
    pub fn selected(model: &Model, changes: &[Arc<Change>]) -> Vec<u64> {
        let changed = |id: ParameterId| changes.iter().any(|change| change.site.parameter == id);
        let count = |(id, p): (ParameterId, &Parameter)| if changed(id) { p.count() as u64 } else { 0 };
        model.parameters.iter().enumerate().map(count).collect()
    }
}

/// `scale` times a change, of the matrix as it is stored: factors in single precision, as a patch keeps them.
fn stored(change: &Change, scale: f64) -> Result<LowRank> {
    let Change { site, factors } = change;
    let numbers = |of: &Mat<f64>, scale: f64| -> Vec<f32> {
        (0..of.nrows()).flat_map(|r| (0..of.ncols()).map(move |k| (of[(r, k)] * scale) as f32)).collect()
    };
    let (outputs, inputs) = (numbers(&factors.left, scale), numbers(&factors.right, 1.0));
    let rank = factors.left.ncols();
    match site.layout {
        Layout::OutIn => LowRank::new([site.outputs, site.inputs, rank], outputs, &inputs),
        Layout::InOut => LowRank::new([site.inputs, site.outputs, rank], inputs, &outputs),
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
        let bytes = Arc::new(change.add(element, &old)?);
        made.insert(parameter.name.clone(), bytes.clone());
        Ok((element, bytes))
    }

    fn element(&self, parameter: &Parameter) -> Result<Element> {
        self.base.element(parameter)
    }

    fn low_rank(&self, parameter: &Parameter) -> Option<Arc<LowRank>> {
        self.changes.get(&parameter.name).cloned()
    }

    fn device_bytes(&self) -> u64 {
        self.base.device_bytes()
    }
}
