//! Task vectors (Ilharco et al., ICLR 2023): what a model changes when it learns something is a direction, and going the other
//! way takes it back: θ − s (θ_learned − θ).

use std::sync::Arc;

use crate::model::Parameter;
use crate::model::weights::{HostBytes, WeightSource};
use crate::unlearn::train::TrainedWeights;
use crate::{Element, Result};

/// A model's weights less `scale` times what training changed of them. Computed whenever they are read, in double precision,
/// and rounded once; a weight that training did not change keeps its bits.
pub struct ScaledWeights {
    base: Arc<dyn WeightSource>,
    learned: Arc<TrainedWeights>,
    scale: f64,
}

impl std::fmt::Debug for ScaledWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScaledWeights").field("scale", &self.scale).finish_non_exhaustive()
    }
}

impl ScaledWeights {
    /// The weights of `base` on the other side of those that were `learned` from them, `scale` times as far.
    pub fn new(base: Arc<dyn WeightSource>, learned: Arc<TrainedWeights>, scale: f64) -> Self {
        ScaledWeights { base, learned, scale }
    }
}

impl WeightSource for ScaledWeights {
    fn tensor(&self, parameter: &Parameter) -> Result<(Element, HostBytes)> {
        let (element, old) = self.base.tensor(parameter)?;
        let Some((_, learned)) = self.learned.trained(&parameter.name) else { return Ok((element, old)) };
        let (mut values, mut other) = (vec![0.0; parameter.count()], vec![0.0; parameter.count()]);
        element.decode(&old, &mut values)?;
        element.decode(&learned, &mut other)?;
        for (value, learned) in values.iter_mut().zip(&other) {
            let old = f64::from(*value);
            *value = (old - self.scale * (f64::from(*learned) - old)) as f32;
        }
        Ok((element, Arc::new(element.encode(&values))))
    }

    fn element(&self, parameter: &Parameter) -> Result<Element> {
        self.base.element(parameter)
    }

    fn device_bytes(&self) -> u64 {
        self.base.device_bytes()
    }
}
