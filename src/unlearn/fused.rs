//! The fused visit: where the threshold and what the forget importance is compared with are known beforehand, measuring,
//! choosing and changing happen in one backward visit. At its end the forget importance, still on the device, meets the
//! retain importance and the weights in the kernels of [`edit`](super::edit), and only the edited weights and their mask
//! leave.
//!
//! That takes all of the forget set in one group, since the importance is complete only then. A table that is embedding and
//! head is complete at the embedding's visit: its sums wait on the host meanwhile, as in any other pass.

use std::collections::HashMap;
use std::sync::Arc;

use super::edit::{Dampening, Edit, Edited, Pair, count_selected, differing, piece, pieces};
use super::importance::{Active, ImportanceSink};
use super::measured::Measured;
use super::selection::{Against, LogRatioHistogram};
use super::store::MemoryStore;
use crate::device::{Buffer, Device};
use crate::kernels::Accumulate;
use crate::kernels::update::{BINS, is_selected, mask_words};
use crate::model::sink::{Context, MatrixSite, Part, Sink, TableSite, VectorSite};
use crate::model::weights::{HostBytes, WeightSource};
use crate::model::{Model, Parameter, ParameterId};
use crate::stream::{Pass, Progress, Unit};
use crate::{Element, Error, Result};

/// Device bytes that an element takes while it is visited: two importances, the weight and its mask bit.
const BYTES_PER_ELEMENT: u64 = 13;

/// What is known before the forget set is measured.
#[derive(Debug)]
pub struct Known {
    /// The importance for what is to be kept.
    pub retain: Measured,
    /// What the forget importance is compared with.
    pub against: Against,
    /// The threshold and the strength.
    pub dampening: Dampening,
}

/// What came of a fused pass.
#[derive(Debug)]
pub struct Fused {
    /// The ratios of all weights that may change.
    pub histogram: LogRatioHistogram,
    /// The edit.
    pub edit: Arc<SparseEdit>,
}

/// Why the forget set of `units` cannot be measured and dampened in one visit; none where it can.
///
/// # Errors
/// When the pass is impossible for another reason than memory.
pub fn obstacle(pass: &Pass, units: &[Unit]) -> Result<Option<String>> {
    let demand = pass.demand(units, None);
    let demand =
        crate::stream::Demand { backward: true, sink_bytes: BYTES_PER_ELEMENT, sink_beside: BINS as u64 * 4, ..demand };
    match pass.plan(&demand) {
        Ok(plan) if plan.groups.len() == 1 => Ok(None),
        Ok(plan) => Ok(Some(format!("the forget set takes {} groups", plan.groups.len()))),
        Err(error @ Error::Budget { .. }) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Measures the forget set and dampens what is chosen, of the parameters that are `wanted`, in the same visits. `base`: the
/// weights as they are stored. The edit has the same bits as that of a [`Comparison`](super::edit::Comparison) of single
/// elements.
///
/// # Errors
/// When there is an [`obstacle`], the pass fails, or a loss is no number, of which no importance can be made.
pub fn dampen(
    pass: &Pass,
    base: &Arc<dyn WeightSource>,
    units: &[Unit],
    wanted: &[bool],
    known: &Known,
    progress: Progress<'_>,
) -> Result<Fused> {
    let model = &pass.model;
    let mut store = MemoryStore::new(model);
    let importance = ImportanceSink::new(model, vec![Accumulate::Square], &mut store).only(wanted.to_vec());
    let mut sink = FusedSink {
        importance,
        model,
        base,
        known,
        scales: ((1.0 / units.len() as f64) as f32, known.retain.scale(), known.against.blend()),
        ratios: Ratios { bins: None, pending: 0, histogram: LogRatioHistogram::new() },
        tensors: HashMap::new(),
    };
    let report = pass.gradients(units, &mut sink, progress)?;
    super::forget::check_losses(&report)?;
    let FusedSink { ratios, tensors, .. } = sink;
    let histogram = ratios.finish(&pass.device)?;
    let mut edit = SparseEdit { model: model.clone(), tensors: vec![None; model.parameters.len()] };
    for (id, tensor) in tensors {
        edit.tensors[id] = Some(tensor);
    }
    Ok(Fused { histogram, edit: Arc::new(edit) })
}

/// Accumulates as an [`ImportanceSink`] does, and turns every visit's importance into an edit at its end.
struct FusedSink<'a> {
    importance: ImportanceSink<'a>,
    model: &'a Arc<Model>,
    base: &'a Arc<dyn WeightSource>,
    known: &'a Known,
    scales: (f32, f32, f32),
    ratios: Ratios,
    tensors: HashMap<ParameterId, SparseTensor>,
}

impl FusedSink<'_> {
    /// Compares `count` elements from `first` on, whose forget importance is on the device, and dampens what is chosen.
    fn change(&mut self, device: &Device, id: ParameterId, first: usize, count: usize, forget: &Buffer) -> Result<()> {
        let parameter = &self.model.parameters[id];
        let retain = device.upload_new(&self.known.retain.range(id, parameter, first..first + count)?)?;
        let pair = Pair { count, forget, retain: &retain, scales: self.scales };
        self.ratios.count(device, pair)?;
        let Dampening { threshold, lambda } = self.known.dampening;
        let mask = pair.select(device, threshold)?;
        let bits = device.read::<u32>(&mask, mask_words(count))?;
        let tensor = self.tensors.entry(id).or_default();
        let selected = count_selected(&bits);
        if selected > 0 {
            let (element, bytes) = self.base.tensor(parameter)?;
            let size = element.size();
            let mut stored = bytes[first * size..(first + count) * size].to_vec();
            pair.dampen(device, &mask, (element, &mut stored), lambda)?;
            tensor.push(first, count, bits, selected, (size, &stored));
        }
        Ok(())
    }

    /// The same for a part that is complete on the device.
    fn change_part(&mut self, device: &Device, Active { part, slices }: &Active) -> Result<()> {
        for (rows, buffers) in slices {
            let (first, count) = (rows.start * part.columns, rows.len() * part.columns);
            self.change(device, part.parameter, first, count, &buffers[0])?;
        }
        Ok(())
    }

    /// The same for a tied table, whose sums are complete on the host, in pieces that are no larger than a visit's part.
    fn change_table(&mut self, device: &Device, part: &Part) -> Result<()> {
        let sums = self.importance.stored(part.parameter, Accumulate::Square)?;
        let most = (part.count() / 32 * 32).clamp(32, piece(device));
        for range in pieces(sums.len(), most) {
            let forget = device.upload_new(&sums[range.clone()])?;
            self.change(device, part.parameter, range.start, range.len(), &forget)?;
        }
        Ok(())
    }
}

impl Sink for FusedSink<'_> {
    fn bytes_per_element(&self) -> u64 {
        BYTES_PER_ELEMENT
    }

    fn bytes_beside(&self) -> u64 {
        BINS as u64 * 4
    }

    fn wants(&self, parameter: ParameterId) -> bool {
        self.importance.wants(parameter)
    }

    fn begin(&mut self, device: &Device, parts: &[Part]) -> Result<()> {
        if parts.iter().any(|part| part.generation > 0) {
            return Err(Error::Device("samples of several groups cannot be measured and dampened in one visit".into()));
        }
        self.importance.begin(device, parts)
    }

    fn matrix(&mut self, context: &Context<'_>, site: &MatrixSite<'_>) -> Result<()> {
        self.importance.matrix(context, site)
    }

    fn vector(&mut self, context: &Context<'_>, site: &VectorSite<'_>) -> Result<()> {
        self.importance.vector(context, site)
    }

    fn table(&mut self, context: &Context<'_>, site: &TableSite<'_>) -> Result<()> {
        self.importance.table(context, site)
    }

    fn end(&mut self, device: &Device) -> Result<()> {
        let (tied, mut complete) = (self.model.tied(), None);
        for active in self.importance.take() {
            if tied != Some(active.part.parameter) {
                self.change_part(device, &active)?;
                continue;
            }
            self.importance.store(device, &active)?;
            let Part { parameter, correction, rows, .. } = &active.part;
            if *correction && rows.end == self.model.parameters[*parameter].rows() {
                complete = Some(active.part.clone());
            }
        }
        // What the visit held is free by now.
        complete.map_or(Ok(()), |part| self.change_table(device, &part))
    }
}

/// Counts ratios on the device for as long as its 32-bit counts cannot overflow.
struct Ratios {
    bins: Option<Buffer>,
    /// Elements that were counted since the counts were read.
    pending: u64,
    histogram: LogRatioHistogram,
}

impl Ratios {
    fn count(&mut self, device: &Device, pair: Pair<'_>) -> Result<()> {
        if self.pending + pair.count as u64 > u64::from(u32::MAX) {
            self.read(device)?;
        }
        let bins = match self.bins.take() {
            Some(bins) => bins,
            None => device.allocate(BINS as u64 * 4)?,
        };
        pair.count(device, &bins)?;
        self.pending += pair.count as u64;
        self.bins = Some(bins);
        Ok(())
    }

    fn read(&mut self, device: &Device) -> Result<()> {
        if let Some(bins) = &self.bins {
            self.histogram.add(&device.read::<u32>(bins, BINS)?)?;
            device.clear(bins)?;
            self.pending = 0;
        }
        Ok(())
    }

    fn finish(mut self, device: &Device) -> Result<LogRatioHistogram> {
        self.read(device)?;
        Ok(self.histogram)
    }
}

/// Edited weights: for each parameter that may change, the selected elements' new values. In memory it takes a bit for every
/// element of a slice with any, and the values.
#[derive(Debug)]
pub struct SparseEdit {
    model: Arc<Model>,
    tensors: Vec<Option<SparseTensor>>,
}

/// The selected elements of a tensor, in pieces.
#[derive(Clone, Debug, Default)]
struct SparseTensor {
    selected: u64,
    pieces: Vec<SparsePiece>,
}

#[derive(Clone, Debug)]
struct SparsePiece {
    /// The tensor's element that its first bit is for.
    first: usize,
    mask: Vec<u32>,
    /// The stored bytes of the selected elements.
    values: Vec<u8>,
}

/// The places of a mask's set bits.
fn places(mask: &[u32]) -> impl Iterator<Item = usize> {
    let words = mask.iter().enumerate().filter(|(_, word)| **word != 0);
    words.flat_map(|(i, _)| (32 * i..32 * i + 32).filter(|place| is_selected(mask, *place)))
}

impl SparseTensor {
    /// Takes the selected ones of `count` elements that are stored as `bytes`, `size` each.
    fn push(&mut self, first: usize, count: usize, mask: Vec<u32>, selected: u64, (size, bytes): (usize, &[u8])) {
        debug_assert_eq!(bytes.len(), count * size);
        let mut values = Vec::with_capacity(selected as usize * size);
        for place in places(&mask) {
            values.extend_from_slice(&bytes[place * size..][..size]);
        }
        self.selected += selected;
        self.pieces.push(SparsePiece { first, mask, values });
    }

    /// Puts the new values into a tensor's bytes.
    fn apply(&self, size: usize, bytes: &mut [u8]) {
        for SparsePiece { first, mask, values } in &self.pieces {
            for (place, value) in places(mask).zip(values.chunks(size)) {
                bytes[(first + place) * size..][..size].copy_from_slice(value);
            }
        }
    }
}

impl Edit for Arc<SparseEdit> {
    fn edit(&self, _: &Device, id: ParameterId, (element, old): (Element, &[u8])) -> Result<Option<Edited>> {
        let Some(tensor) = &self.tensors[id] else { return Ok(None) };
        let mut bytes = old.to_vec();
        tensor.apply(element.size(), &mut bytes);
        Ok(Some(Edited { changed: differing(element, old, &bytes), selected: tensor.selected, bytes, low_rank: None }))
    }
}

/// The weights of `base` with a sparse edit on top.
pub struct SparseWeights {
    base: Arc<dyn WeightSource>,
    edit: Arc<SparseEdit>,
}

impl std::fmt::Debug for SparseWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SparseWeights").finish_non_exhaustive()
    }
}

impl SparseWeights {
    /// The weights of `base` with `edit`.
    pub fn new(base: Arc<dyn WeightSource>, edit: Arc<SparseEdit>) -> Self {
        SparseWeights { base, edit }
    }
}

impl WeightSource for SparseWeights {
    fn tensor(&self, parameter: &Parameter) -> Result<(Element, HostBytes)> {
        let (element, bytes) = self.base.tensor(parameter)?;
        let id = self.edit.model.parameters.iter().position(|p| p.name == parameter.name);
        match id.and_then(|id| self.edit.tensors[id].as_ref()).filter(|tensor| tensor.selected > 0) {
            None => Ok((element, bytes)),
            Some(tensor) => {
                let mut edited = bytes.to_vec();
                tensor.apply(element.size(), &mut edited);
                Ok((element, Arc::new(edited)))
            }
        }
    }

    fn element(&self, parameter: &Parameter) -> Result<Element> {
        self.base.element(parameter)
    }

    fn device_bytes(&self) -> u64 {
        self.base.device_bytes()
    }
}
