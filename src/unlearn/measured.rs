//! The Fisher diagonal of a set of samples, ready to be compared with that of another: sums in a store, or the figures of an
//! importance file.

use std::ops::Range;

use super::importance::Kind;
use super::selection::Combine;
use super::store::Store;
use crate::checkpoint::TensorFile;
use crate::kernels::Accumulate;
use crate::kernels::update::combine::{Params, reference};
use crate::model::{Model, Parameter, ParameterId};
use crate::{Element, Error, Result};

/// The Fisher diagonal of a set of samples.
pub struct Measured {
    source: Source,
    samples: usize,
}

enum Source {
    Sums {
        store: Box<dyn Store + Send + Sync>,
        units: usize,
    },
    File(TensorFile),
    /// The same figure for every element.
    Constant(f32),
    /// Sums of squares for each of several forms.
    Forms {
        forms: Vec<Form>,
        combine: Combine,
    },
}

/// The sums of squares of one form's gradients.
pub struct Form {
    /// Its name.
    pub name: String,
    /// The sums.
    pub store: Box<dyn Store + Send + Sync>,
    /// Over so many gradients.
    pub units: usize,
}

impl Form {
    /// What turns its sums into means.
    pub fn scale(&self) -> f32 {
        (1.0 / self.units as f64) as f32
    }
}

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Measured").field("samples", &self.samples).finish_non_exhaustive()
    }
}

impl Measured {
    /// From a store that holds sums of squares over `units` gradients of `samples` samples (of as many where every sample
    /// has a gradient of its own).
    pub fn sums(store: Box<dyn Store + Send + Sync>, units: usize, samples: usize) -> Self {
        Measured { source: Source::Sums { store, units }, samples }
    }

    /// Sums for each of several forms, and how they become one importance, of `samples` samples.
    pub fn forms(forms: Vec<Form>, combine: Combine, samples: usize) -> Self {
        Measured { source: Source::Forms { forms, combine }, samples }
    }

    /// The forms of which it consists and how they become one importance; none where it is one already.
    pub fn consensus(&self) -> Option<(&[Form], Combine)> {
        match &self.source {
            Source::Forms { forms, combine } if forms.len() > 1 => Some((forms, *combine)),
            _ => None,
        }
    }

    /// The same `value` for every element: what scores are compared with that need no second measurement.
    pub fn constant(value: f32) -> Self {
        Measured { source: Source::Constant(value), samples: 0 }
    }

    /// From an importance file of this `kind` that `efface fisher` wrote for this model. `settings` are metadata that the file must have
    /// been measured with (`estimator`, `loss`, ...), for figures of different definitions must not be compared.
    ///
    /// # Errors
    /// When the file is of another kind, model or setting, or a tensor is missing, has another shape, or holds a number that
    /// is not finite or below 0.
    pub fn file(
        file: TensorFile,
        model: &Model,
        model_sha256: &str,
        kind: Kind,
        settings: &[(&str, String)],
    ) -> Result<Self> {
        let path = file.path().to_path_buf();
        let wrong = |place: &str, problem: String| Error::file(&path, place, problem);
        let key = |name: &str| file.metadata().get(name).cloned().unwrap_or_default();
        if key("kind") != kind.name() {
            let problem = format!("is {:?}; right is an importance file of the kind {}", key("kind"), kind.name());
            return Err(wrong("metadata `kind`", problem));
        }
        if key("model_sha256") != model_sha256 {
            let problem = format!("was measured on the model {}; this one is {model_sha256}", key("model_sha256"));
            return Err(wrong("metadata `model_sha256`", problem));
        }
        for (name, value) in settings {
            if key(name) != *value {
                let problem = format!("is {:?}; to be compared, it would be {value:?}", key(name));
                return Err(wrong(&format!("metadata `{name}`"), problem));
            }
        }
        for Parameter { name, shape, .. } in &model.parameters {
            let tensor = file.tensor(name).ok_or_else(|| wrong(name, "the tensor is missing".into()))?;
            if tensor.shape != *shape || tensor.element != Some(Element::F32) {
                return Err(wrong(name, format!("is {} {:?}; right is F32 {shape:?}", tensor.dtype, tensor.shape)));
            }
            if let Some(place) = first_invalid(file.bytes(tensor)) {
                return Err(wrong(name, format!("element {place} is no finite number from 0")));
            }
        }
        let samples = key("samples").parse();
        let samples = samples.map_err(|_| wrong("metadata `samples`", "is missing or no number".into()))?;
        Ok(Measured { source: Source::File(file), samples })
    }

    /// How many samples it was measured over.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// What turns [`values`](Measured::values) into means.
    pub fn scale(&self) -> f32 {
        match self.source {
            Source::Sums { units, .. } => (1.0 / units as f64) as f32,
            Source::Forms { ref forms, .. } if forms.len() == 1 => forms[0].scale(),
            Source::File(_) | Source::Constant(_) | Source::Forms { .. } => 1.0,
        }
    }

    /// The values of a parameter's elements, before the scale.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn values(&self, id: ParameterId, parameter: &Parameter) -> Result<Vec<f32>> {
        self.range(id, parameter, 0..parameter.count())
    }

    /// The values of some of a parameter's elements, before the scale.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn range(&self, id: ParameterId, parameter: &Parameter, elements: Range<usize>) -> Result<Vec<f32>> {
        match &self.source {
            Source::Sums { store, .. } => {
                let mut all = store.all(id, Accumulate::Square)?;
                all.truncate(elements.end);
                all.drain(..elements.start);
                Ok(all)
            }
            Source::Constant(value) => Ok(vec![*value; elements.len()]),
            Source::Forms { forms, combine } => {
                let mut stack = Vec::with_capacity(forms.len() * elements.len());
                for form in forms {
                    stack.extend_from_slice(&form.store.all(id, Accumulate::Square)?[elements.clone()]);
                }
                if forms.len() == 1 {
                    return Ok(stack);
                }
                let scales: Vec<f32> = forms.iter().map(Form::scale).collect();
                let (count, how) = (elements.len(), combine.how(forms.len())?);
                let params = Params { count: crate::kernels::index(count)?, forms: forms.len() as u32, rank: 1 };
                let mut combined = vec![0.0; count];
                reference(&params, how, &stack, &scales, &mut combined);
                Ok(combined)
            }
            Source::File(file) => {
                let missing = || Error::file(file.path(), &parameter.name, "the tensor is missing");
                let tensor = file.tensor(&parameter.name).ok_or_else(missing)?;
                Ok(bytemuck::pod_collect_to_vec(&file.bytes(tensor)[4 * elements.start..4 * elements.end]))
            }
        }
    }
}

/// The place of the first little-endian `f32` that no importance can be.
fn first_invalid(bytes: &[u8]) -> Option<usize> {
    let valid = |value: f32| value.is_finite() && value >= 0.0;
    bytes.as_chunks::<4>().0.iter().position(|value| !valid(f32::from_le_bytes(*value)))
}
