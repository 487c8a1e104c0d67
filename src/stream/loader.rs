//! Brings stages' weights to the device, in the order in which the pass will want them. A thread reads the next stages from
//! the mapped file, checks their numbers and, for a GPU, copies them into staging memory, while the device computes on this
//! one.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::device::{Device, Staged, Stager};
use crate::model::parameters::Role;
use crate::model::sink::Part;
use crate::model::weights::{HostBytes, StageWeights, WeightSource, slices};
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

    fn rest(&self, parameter: &Parameter) {
        if let Ok((tensor, _)) = self.find(parameter) {
            self.checkpoint.release(tensor);
        }
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
        let stager = self.device.stager(self.staging_bytes(visits));
        thread::scope(|scope| {
            // One visit is read ahead: that much host memory the reader may hold besides what is being uploaded. Of the
            // pieces, there are as many as the stager has memory for.
            let (sender, receiver) = sync_channel(1);
            let (piece_sender, pieces) = channel();
            let stager = &stager;
            scope.spawn(move || {
                let mut sent = HashSet::new();
                for visit in visits {
                    let tensors = self.read(visit, &mut sent);
                    let kept = tensors.as_ref().ok().cloned();
                    // The consumer may have stopped early, with an error or because it had enough.
                    if sender.send(tensors).is_err() || !self.stage(visit, kept.as_ref(), stager, &piece_sender) {
                        return;
                    }
                }
            });
            consume(&mut Queue { loader: self, visits: visits.iter(), receiver, pieces, stager })
        })
    }

    /// Ends a visit whose weights will not be wanted for a while. On the CPU, which uses them where they lie, their pages go.
    pub(super) fn rest(&self, visit: &Visit) {
        if self.device.is_cpu() {
            visit.iter().for_each(|part| self.source.rest(&self.model.parameters[part.parameter]));
        }
    }

    /// Staging memory that lets a visit's weights be ready before the device is: as much as the largest visit has, unless
    /// that is much for this device, whose own memory it may be.
    fn staging_bytes(&self, visits: &[Visit]) -> u64 {
        const MOST: u64 = 512 << 20;
        const LEAST: u64 = 1 << 20;
        let bytes = |part: &Part| {
            let element = self.source.element(&self.model.parameters[part.parameter]);
            part.count() as u64 * element.map_or(4, Element::size) as u64
        };
        let largest = visits.iter().map(|visit| visit.iter().map(bytes).sum()).max().unwrap_or(0);
        MOST.min(largest).min(self.device.budget().limit() / 8).max(LEAST)
    }

    /// Reads a visit's tensors on the host; those that are on the device already, or on their way to stay there, are passed
    /// over.
    fn read(&self, visit: &Visit, sent: &mut HashSet<(ParameterId, Range<usize>)>) -> Result<Tensors> {
        let _span = self.device.span(|| format!("reading {}", self.name(visit)));
        let mut one = |part: &Part| {
            let kept = self.resident.is_some() && !sent.insert((part.parameter, part.rows.clone()));
            if kept || self.on_device(part).is_some() {
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
        };
        visit.iter().map(&mut one).collect()
    }

    /// Copies a visit's matrices into staging memory, in the order in which [`Loader::upload`] takes them. False: nobody
    /// wants them any more.
    fn stage(&self, visit: &Visit, tensors: Option<&Tensors>, stager: &Stager, sender: &Sender<Piece>) -> bool {
        let Some(tensors) = tensors.filter(|_| stager.is_needed()) else { return true };
        let _span = self.device.span(|| format!("staging {}", self.name(visit)));
        for (part, tensor) in visit.iter().zip(tensors) {
            let parameter = &self.model.parameters[part.parameter];
            let Some((element, bytes)) = tensor.as_ref().filter(|_| parameter.role != Role::Vector) else { continue };
            for (_, range) in slices(parameter, *element, part.rows.clone(), self.device.binding_limit()) {
                for piece in bytes[range].chunks(stager.piece()) {
                    let staged = stager.stage(piece);
                    let failed = staged.is_err();
                    if sender.send(staged).is_err() || failed {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// What a visit's weights are called in a recording.
    fn name(&self, visit: &Visit) -> String {
        let parameters: Vec<ParameterId> = visit.iter().map(|part| part.parameter).collect();
        self.model.name_of(&parameters)
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

    fn upload(
        &self,
        visit: &Visit,
        tensors: Tensors,
        next_piece: &mut dyn FnMut() -> Result<Staged>,
    ) -> Result<StageWeights> {
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
            loaded.load(&self.device, parameter, part.rows.clone(), &tensor, next_piece)?;
            if let Some(resident) = &self.resident {
                let key = (part.parameter, part.rows.clone());
                resident.lock().unwrap_or_else(PoisonError::into_inner).insert(key, loaded.clone());
            }
            weights.extend(loaded);
        }
        Ok(weights)
    }
}

/// Staged bytes of a matrix, or why there are none.
type Piece = Result<Staged>;

/// Visits' weights, in the order agreed.
pub struct Queue<'a> {
    loader: &'a Loader,
    visits: std::slice::Iter<'a, Visit>,
    receiver: Receiver<Result<Tensors>>,
    pieces: Receiver<Piece>,
    stager: &'a Stager,
}

impl Queue<'_> {
    /// Brings the next visit's weights to the device. The last visit's should have been dropped by now.
    ///
    /// # Errors
    /// When they cannot be read, the device has no room for them, or no visit is left.
    pub fn next(&mut self) -> Result<StageWeights> {
        let Queue { loader, visits, receiver, pieces, .. } = self;
        let visit = visits.next().ok_or_else(unannounced)?;
        let _span = loader.device.span(|| format!("bringing {} to the device", loader.name(visit)));
        let tensors = received(loader, visit, receiver)??;
        loader.upload(visit, tensors, &mut || received(loader, visit, pieces)?)
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        self.stager.close();
    }
}

/// What the reading thread sends next. While it is waited for, the device gets what is recorded, without which it would not
/// give staging memory back.
fn received<T>(loader: &Loader, visit: &Visit, receiver: &Receiver<T>) -> Result<T> {
    match receiver.try_recv() {
        Ok(received) => return Ok(received),
        Err(TryRecvError::Disconnected) => return Err(unannounced()),
        Err(TryRecvError::Empty) => {}
    }
    let _span = loader.device.span(|| format!("waiting for {} to be read", loader.name(visit)));
    loader.device.submit()?;
    receiver.recv().map_err(|_| unannounced())
}

fn unannounced() -> Error {
    Error::Device("the weights of a visit that was not announced were asked for".into())
}

/// Reads one byte of every page, so that the page faults happen here and not on the thread that computes.
fn touch(bytes: &HostBytes, range: Range<usize>) {
    const PAGE: usize = 4096;
    let part = bytes.get(range).unwrap_or_default();
    let sum = part.iter().step_by(PAGE).fold(0u8, |sum, byte| sum ^ byte);
    std::hint::black_box(sum);
}
