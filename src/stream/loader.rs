//! Brings stages' weights to the device, in the order in which the pass will want them. A thread reads the next stage from
//! the mapped file, and checks its numbers, while the device computes on this one.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::device::Device;
use crate::model::sink::Part;
use crate::model::weights::{HostBytes, StageWeights, WeightSource};
use crate::model::{Model, Parameter, ParameterId};
use crate::{Element, Error, Result};

/// Weights as a checkpoint stores them.
#[derive(Debug)]
pub struct CheckpointWeights {
    checkpoint: Arc<Checkpoint>,
    checked: Mutex<HashSet<String>>,
}

impl CheckpointWeights {
    /// Weights of this checkpoint.
    pub fn new(checkpoint: Arc<Checkpoint>) -> Self {
        CheckpointWeights { checkpoint, checked: Mutex::default() }
    }

    fn find(&self, parameter: &Parameter) -> Result<(&TensorInfo, Element)> {
        let missing = || Error::file(self.checkpoint.dir(), &parameter.name, "the tensor is missing");
        let tensor = self.checkpoint.tensor(&parameter.name).ok_or_else(missing)?;
        Ok((tensor, tensor.element.ok_or_else(missing)?))
    }
}

impl WeightSource for CheckpointWeights {
    fn tensor(&self, parameter: &Parameter) -> Result<(Element, HostBytes)> {
        let (tensor, element) = self.find(parameter)?;
        let new = self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(parameter.name.clone());
        if new && let Some(place) = self.checkpoint.first_non_finite(tensor) {
            let problem = format!("element {place} is not finite; a model with such weights cannot be measured");
            return Err(Error::file(self.checkpoint.dir(), &parameter.name, problem));
        }
        Ok((element, Arc::new(self.checkpoint.mapped(tensor))))
    }

    fn element(&self, parameter: &Parameter) -> Result<Element> {
        Ok(self.find(parameter)?.1)
    }
}

/// What a visit needs: parts of parameters. A visit that needs the same parts as one before may find them on the device.
pub type Visit = Vec<Part>;

/// The weights that stay on the device, by parameter and rows.
type Resident = HashMap<(ParameterId, Range<usize>), StageWeights>;

/// A visit's tensors on the host; none where a part is on the device already.
type Tensors = Vec<Option<(Element, HostBytes)>>;

/// Brings visits' weights to one device.
pub struct Loader {
    model: Arc<Model>,
    source: Arc<dyn WeightSource>,
    device: Device,
    /// Where all weights fit beside everything else they stay; otherwise none does.
    resident: Option<Mutex<Resident>>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("device", &self.device).field("resident", &self.resident.is_some()).finish()
    }
}

impl Loader {
    /// A loader of `source`'s weights. `resident`: keep on the device what was brought there.
    pub fn new(model: Arc<Model>, source: Arc<dyn WeightSource>, device: &Device, resident: bool) -> Self {
        let resident = resident.then(Mutex::default);
        Loader { model, source, device: device.clone(), resident }
    }

    /// Runs `consume` with a queue from which the weights of `visits` can be taken, in this order.
    ///
    /// # Errors
    /// What `consume` returns.
    pub fn run<T>(&self, visits: &[Visit], consume: impl FnOnce(&mut Queue<'_>) -> Result<T>) -> Result<T> {
        thread::scope(|scope| {
            // One visit is read ahead: that much host memory the reader may hold besides what is being uploaded.
            let (sender, receiver) = sync_channel(1);
            scope.spawn(move || {
                for visit in visits {
                    // The consumer may have stopped early, with an error or because it had enough.
                    if sender.send(self.read(visit)).is_err() {
                        return;
                    }
                }
            });
            consume(&mut Queue { loader: self, visits: visits.iter(), receiver })
        })
    }

    /// Reads a visit's tensors on the host; those that are on the device already are passed over.
    fn read(&self, visit: &Visit) -> Result<Tensors> {
        visit
            .iter()
            .map(|part| {
                if self.on_device(part).is_some() {
                    return Ok(None);
                }
                let parameter = &self.model.parameters[part.parameter];
                let (element, bytes) = self.source.tensor(parameter)?;
                if bytes.len() != parameter.count() * element.size() {
                    return Err(Error::Device(format!("{}: the source's size is wrong", parameter.name)));
                }
                touch(
                    &bytes,
                    part.rows.start * part.columns * element.size()..part.rows.end * part.columns * element.size(),
                );
                Ok(Some((element, bytes)))
            })
            .collect()
    }

    fn on_device(&self, part: &Part) -> Option<StageWeights> {
        let resident = self.resident.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        resident.get(&(part.parameter, part.rows.clone())).cloned()
    }

    /// The weights that stayed on the device, by parameter (for reading back what was trained there).
    pub fn resident(&self) -> Vec<(ParameterId, crate::model::weights::Loaded)> {
        let Some(resident) = &self.resident else { return Vec::new() };
        let resident = resident.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = resident.values().flat_map(|w| w.iter().map(|(id, l)| (id, l.clone()))).collect();
        all.sort_by_key(|(id, loaded)| (*id, loaded.slices[0].rows.start));
        all
    }

    fn upload(&self, visit: &Visit, tensors: Tensors) -> Result<StageWeights> {
        let mut weights = StageWeights::default();
        for (part, tensor) in visit.iter().zip(tensors) {
            if let Some(there) = self.on_device(part) {
                weights.extend(there);
                continue;
            }
            let Some(tensor) = tensor else {
                return Err(Error::Device("a part that was on the device is gone".into()));
            };
            let mut loaded = StageWeights::default();
            let parameter = (part.parameter, &self.model.parameters[part.parameter]);
            loaded.load(&self.device, parameter, part.rows.clone(), &tensor)?;
            if let Some(resident) = &self.resident {
                let key = (part.parameter, part.rows.clone());
                resident.lock().unwrap_or_else(PoisonError::into_inner).insert(key, loaded.clone());
            }
            weights.extend(loaded);
        }
        Ok(weights)
    }
}

/// Visits' weights, in the order agreed.
pub struct Queue<'a> {
    loader: &'a Loader,
    visits: std::slice::Iter<'a, Visit>,
    receiver: Receiver<Result<Tensors>>,
}

impl Queue<'_> {
    /// Brings the next visit's weights to the device. The last visit's should have been dropped by now.
    ///
    /// # Errors
    /// When they cannot be read, the device has no room for them, or no visit is left.
    pub fn next(&mut self) -> Result<StageWeights> {
        let ended = || Error::Device("the weights of a visit that was not announced were asked for".into());
        let visit = self.visits.next().ok_or_else(ended)?;
        let tensors = self.receiver.recv().map_err(|_| ended())??;
        self.loader.upload(visit, tensors)
    }
}

/// Reads one byte of every page, so that the page faults happen here and not on the thread that computes.
fn touch(bytes: &HostBytes, range: Range<usize>) {
    const PAGE: usize = 4096;
    let part = bytes.get(range).unwrap_or_default();
    let sum = part.iter().step_by(PAGE).fold(0u8, |sum, byte| sum ^ byte);
    std::hint::black_box(sum);
}
