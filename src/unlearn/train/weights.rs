//! Weights of which some are trained, as a source for passes.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::Parameter;
use crate::model::weights::{HostBytes, WeightSource};
use crate::{Element, Result};

/// A packed tensor.
type Packed = (Element, Arc<Vec<u8>>);

/// A model's weights with the trained ones in place of the old: what passes run over while training goes on, and what
/// evaluation and writing take afterwards.
pub struct TrainedWeights {
    base: Arc<dyn WeightSource>,
    trained: RwLock<HashMap<String, Packed>>,
}

impl std::fmt::Debug for TrainedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainedWeights").finish_non_exhaustive()
    }
}

impl TrainedWeights {
    /// The weights of `base`, none of them trained yet.
    pub(super) fn over(base: Arc<dyn WeightSource>) -> Self {
        TrainedWeights { base, trained: RwLock::default() }
    }

    /// The weights as they are now, which later steps do not change.
    pub fn snapshot(&self) -> TrainedWeights {
        let trained = self.trained.read().unwrap_or_else(PoisonError::into_inner).clone();
        TrainedWeights { base: self.base.clone(), trained: RwLock::new(trained) }
    }

    /// The element type and bytes of a parameter of which elements are trained, by its name; none of another.
    pub fn trained(&self, name: &str) -> Option<(Element, Arc<Vec<u8>>)> {
        self.trained.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn set(&self, name: &str, element: Element, bytes: Vec<u8>) {
        let mut trained = self.trained.write().unwrap_or_else(PoisonError::into_inner);
        trained.insert(name.to_string(), (element, Arc::new(bytes)));
    }
}

impl WeightSource for TrainedWeights {
    fn tensor(&self, parameter: &Parameter) -> Result<(Element, HostBytes)> {
        match self.trained(&parameter.name) {
            Some((element, bytes)) => Ok((element, bytes)),
            None => self.base.tensor(parameter),
        }
    }

    fn element(&self, parameter: &Parameter) -> Result<Element> {
        self.base.element(parameter)
    }

    fn device_bytes(&self) -> u64 {
        self.base.device_bytes()
    }
}
