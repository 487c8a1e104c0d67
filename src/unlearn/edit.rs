//! The change itself: which elements of a parameter are selected, and what dampening makes of them. A pure function of the
//! stored weights and the two importances, computed on the device piece by piece, so that trying an edit, writing it and
//! writing it again give the same bits.

use std::ops::Range;
use std::sync::Arc;

pub use super::dampened::DampenedWeights;
use super::measured::{Form, Measured};
use super::overlap::Overlap;
use super::selection::{Against, Axis, Granularity, GroupScore, Grouping, Heads, LogRatioHistogram};
use crate::checkpoint::LowRank;
use crate::device::{Buffer, Device};
use crate::kernels::Accumulate;
use crate::kernels::update::log_ratio_histogram::BINS;
use crate::kernels::update::{combine, dampen, log_ratio_histogram, mask_words, select};
use crate::model::parameters::Layout;
use crate::model::{Model, Parameter, ParameterId, Stage};
use crate::{Element, Error, Result};

/// Elements of a parameter that are on the device at the same time, at most.
const PIECE: usize = 1 << 20;
/// Device bytes that an element takes: two importances, the weight and its mask bit.
const BYTES_PER_ELEMENT: u64 = 13;

/// Two measurements of one model, what is compared with what, and what may be changed.
#[derive(Debug)]
pub struct Comparison {
    pub(super) model: Arc<Model>,
    forget: Measured,
    retain: Measured,
    against: Against,
    /// For each parameter how its elements are grouped; none where it must not change.
    groupings: Vec<Option<Grouping>>,
    granularity: Granularity,
}

/// A selection and a strength: SSD's update `θ ← θ · min(λ F / F_f, 1)` where `F_f / F` exceeds the threshold
/// (Foster, Schoepf and Brintrup, AAAI 2024).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dampening {
    /// The ratio above which an element is selected.
    pub threshold: f32,
    /// The strength.
    pub lambda: f32,
}

/// Two importances of the same elements on the device, and how they are compared: what a piece's change is made of, wherever
/// the importances come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    /// How many elements.
    pub(super) count: usize,
    /// The forget set's sums.
    pub(super) forget: &'a Buffer,
    /// The retain set's.
    pub(super) retain: &'a Buffer,
    /// What makes means of both, and the forget set's part in what is compared with.
    pub(super) scales: (f32, f32, f32),
}

impl Pair<'_> {
    /// Counts the ratios into `bins`.
    pub(super) fn count(self, device: &Device, bins: &Buffer) -> Result<()> {
        let (fs, rs, blend) = self.scales;
        log_ratio_histogram::run(device, self.count, self.forget, fs, self.retain, rs, blend, bins)
    }

    /// The mask of the elements with a ratio above `threshold`, on the device.
    pub(super) fn select(self, device: &Device, threshold: f32) -> Result<Buffer> {
        let (fs, rs, blend) = self.scales;
        let mask = device.allocate(mask_words(self.count) as u64 * 4)?;
        select::run(device, self.count, self.forget, fs, self.retain, rs, blend, threshold, &mask)?;
        Ok(mask)
    }

    /// Dampens the selected ones of the elements that are stored as `bytes`.
    pub(super) fn dampen(
        self,
        device: &Device,
        mask: &Buffer,
        (element, bytes): (Element, &mut [u8]),
        lambda: f32,
    ) -> Result<()> {
        let (fs, rs, blend) = self.scales;
        let weights = device.allocate(bytes.len().next_multiple_of(4) as u64)?;
        device.upload(&weights, 0, bytes)?;
        dampen::run(device, self.count, element, &weights, mask, self.forget, fs, self.retain, rs, blend, lambda)?;
        device.download(&weights, 0, bytes)
    }
}

/// How many elements a mask selects.
pub(super) fn count_selected(mask: &[u32]) -> u64 {
    mask.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// What makes edited tensors of stored ones: the same whenever it is asked.
pub trait Edit {
    /// Makes an edited tensor of a parameter that is stored as `bytes`; none where it must not change.
    ///
    /// # Errors
    /// When it cannot be computed.
    fn edit(&self, device: &Device, id: ParameterId, stored: (Element, &[u8])) -> Result<Option<Edited>>;
}

impl Edit for (Arc<Comparison>, Dampening) {
    fn edit(&self, device: &Device, id: ParameterId, stored: (Element, &[u8])) -> Result<Option<Edited>> {
        self.0.dampen(device, id, stored, self.1)
    }
}

/// An edited tensor.
#[derive(Debug)]
pub struct Edited {
    /// The stored bytes.
    pub bytes: Vec<u8>,
    /// Elements that were selected.
    pub selected: u64,
    /// Elements whose bytes differ from before.
    pub changed: u64,
    /// What was added, where that is of low rank.
    pub low_rank: Option<Arc<LowRank>>,
}

impl Comparison {
    /// Compares the importance for what is to be forgotten with that for what is to be kept. `allowed`: for each parameter
    /// whether it may change. With the granularity of heads, only the projections that have heads can.
    ///
    /// # Errors
    /// When nothing may change.
    pub fn new(
        model: Arc<Model>,
        (forget, retain): (Measured, Measured),
        against: Against,
        allowed: &[bool],
        granularity: Granularity,
    ) -> Result<Self> {
        let heads = heads(&model);
        let grouping = |(id, parameter): (ParameterId, &Parameter)| {
            let possible = granularity != Granularity::Head || heads[id].is_some();
            let allowed = allowed.get(id).copied().unwrap_or(false) && possible;
            allowed.then(|| Grouping::new(granularity, &parameter.shape, heads[id])).transpose()
        };
        let groupings = model.parameters.iter().enumerate().map(grouping).collect::<Result<Vec<_>>>()?;
        if groupings.iter().all(Option::is_none) {
            return Err(Error::argument(
                "no tensor may be changed: what is left of --only after --skip is empty, or has no attention heads",
            ));
        }
        Ok(Comparison { model, forget, retain, against, groupings, granularity })
    }

    /// What the forget importance is compared with.
    pub fn against(&self) -> Against {
        self.against
    }

    /// How many parameters the model has.
    pub fn parameters(&self) -> usize {
        self.groupings.len()
    }

    /// Whether a parameter may change.
    pub fn may_change(&self, id: ParameterId) -> bool {
        self.groupings[id].is_some()
    }

    /// Device memory that computing an edit takes, beside a pass if one is running, in bytes. It depends on the model and
    /// not on the budget, so that a budget can be named that will do.
    pub fn device_bytes(model: &Model, allowed: &[bool], device: &Device) -> u64 {
        let counts = model.parameters.iter().zip(allowed).filter(|(_, allowed)| **allowed).map(|(p, _)| p.count());
        let largest = counts.max().unwrap_or(0);
        piece(device).min(largest.next_multiple_of(32)) as u64 * BYTES_PER_ELEMENT + BINS as u64 * 4 + 1024
    }

    /// The ratios of all weights that may change.
    ///
    /// # Errors
    /// When an importance cannot be read or the device failed.
    pub fn ratios(&self, device: &Device, progress: &dyn Fn(u64, u64)) -> Result<LogRatioHistogram> {
        let mut histogram = LogRatioHistogram::new();
        let total = self.model.parameters.len() as u64;
        for (id, grouping) in self.groupings.iter().enumerate() {
            if let Some(grouping) = grouping {
                self.count(device, id, grouping, &mut histogram)?;
            }
            progress(id as u64 + 1, total);
        }
        Ok(histogram)
    }

    fn count(
        &self,
        device: &Device,
        id: ParameterId,
        grouping: &Grouping,
        histogram: &mut LogRatioHistogram,
    ) -> Result<()> {
        let (forget, retain) = self.values(id)?;
        if self.granularity != Granularity::Element {
            let scores = self.scores(grouping, &forget, &retain)?;
            grouping.count(&scores, self.against.blend(), histogram);
            return Ok(());
        }
        let bins = device.allocate(BINS as u64 * 4)?;
        for range in pieces(retain.len(), self.piece(device)) {
            let f = self.forget_piece(device, &forget, range.clone())?;
            let r = device.upload_new(&retain[range.clone()])?;
            device.clear(&bins)?;
            self.pair(range.len(), (&f, &r)).count(device, &bins)?;
            histogram.add(&device.read::<u32>(&bins, BINS)?)?;
        }
        Ok(())
    }

    /// The forget importance, one for each form that it consists of, and the retain importance.
    fn values(&self, id: ParameterId) -> Result<(Vec<Vec<f32>>, Vec<f32>)> {
        let parameter = &self.model.parameters[id];
        let forget = match self.forget.consensus() {
            None => vec![self.forget.values(id, parameter)?],
            Some((forms, _)) => {
                forms.iter().map(|form| form.store.all(id, Accumulate::Square)).collect::<Result<_>>()?
            }
        };
        Ok((forget, self.retain.values(id, parameter)?))
    }

    /// The forget importance of some elements on the device: as it was measured, or what its forms come to.
    fn forget_piece(&self, device: &Device, forget: &[Vec<f32>], range: Range<usize>) -> Result<Buffer> {
        let Some((forms, combine)) = self.forget.consensus() else { return device.upload_new(&forget[0][range]) };
        let count = range.len();
        let stack = device.allocate((forms.len() * count * 4) as u64)?;
        for (k, values) in forget.iter().enumerate() {
            device.upload(&stack, (k * count * 4) as u64, bytemuck::cast_slice(&values[range.clone()]))?;
        }
        let scales: Vec<f32> = forms.iter().map(Form::scale).collect();
        let (scales, combined) = (device.upload_new(&scales)?, device.allocate(count as u64 * 4)?);
        combine::run(device, count, forms.len(), combine.how(forms.len())?, &stack, &scales, &combined)?;
        Ok(combined)
    }

    /// Elements in a piece. With forms, as many as take no more memory with the importances of all of them.
    fn piece(&self, device: &Device) -> usize {
        let Some((forms, _)) = self.forget.consensus() else { return piece(device) };
        let allowed = self.groupings.iter().zip(&self.model.parameters).filter(|(grouping, _)| grouping.is_some());
        let largest = allowed.map(|(_, parameter)| parameter.count()).max().unwrap_or(0);
        (piece(device).min(largest) / forms.len() / 32 * 32).max(32)
    }

    /// The importances of whole groups. What the forms agree on is asked of a group as a whole.
    fn scores(&self, grouping: &Grouping, forget: &[Vec<f32>], retain: &[f32]) -> Result<Vec<GroupScore>> {
        let rs = f64::from(self.retain.scale());
        let Some((forms, combine)) = self.forget.consensus() else {
            return grouping.scores(&forget[0], f64::from(self.forget.scale()), retain, rs);
        };
        let of_form = |(form, values): (&Form, &Vec<f32>)| grouping.scores(values, f64::from(form.scale()), retain, rs);
        let scores = forms.iter().zip(forget).map(of_form).collect::<Result<Vec<_>>>()?;
        let combined = |group: usize| {
            let forms: Vec<f64> = scores.iter().map(|scores| scores[group].forget).collect();
            GroupScore { forget: combine.of(&forms), retain: scores[0][group].retain }
        };
        Ok((0..grouping.groups()).map(combined).collect())
    }

    /// How far the forms' own masks overlap, of elements (or groups) whose ratio for that form exceeds `threshold`; none where
    /// the forget importance does not consist of forms.
    ///
    /// # Errors
    /// When an importance cannot be read or the device failed.
    pub fn overlap(&self, device: &Device, threshold: f32) -> Result<Option<Overlap>> {
        let Some((forms, _)) = self.forget.consensus() else { return Ok(None) };
        let mut overlap = Overlap::new(forms.iter().map(|form| form.name.clone()).collect());
        for (id, grouping) in self.groupings.iter().enumerate() {
            let Some(grouping) = grouping else { continue };
            let (forget, retain) = self.values(id)?;
            let (blend, rs) = (self.against.blend(), self.retain.scale());
            if self.granularity != Granularity::Element {
                let mask = |(form, values): (&Form, &Vec<f32>)| {
                    let scores = grouping.scores(values, f64::from(form.scale()), &retain, f64::from(rs))?;
                    Ok(grouping.select(&scores, blend, threshold))
                };
                overlap.add(&forms.iter().zip(&forget).map(mask).collect::<Result<Vec<_>>>()?);
                continue;
            }
            for range in pieces(retain.len(), self.piece(device)) {
                let (count, words) = (range.len(), mask_words(range.len()));
                let r = device.upload_new(&retain[range.clone()])?;
                let mask = |(form, values): (&Form, &Vec<f32>)| {
                    let f = device.upload_new(&values[range.clone()])?;
                    let pair = Pair { count, forget: &f, retain: &r, scales: (form.scale(), rs, blend) };
                    device.read::<u32>(&pair.select(device, threshold)?, words)
                };
                overlap.add(&forms.iter().zip(&forget).map(mask).collect::<Result<Vec<_>>>()?);
            }
        }
        Ok(Some(overlap))
    }

    /// The scales of both importances and the forget set's part in what is compared with.
    fn scales(&self) -> (f32, f32, f32) {
        (self.forget.scale(), self.retain.scale(), self.against.blend())
    }

    /// Which elements of a parameter are selected, as a mask; none where it must not change.
    ///
    /// # Errors
    /// When an importance cannot be read or the device failed.
    pub fn selected(&self, device: &Device, id: ParameterId, threshold: f32) -> Result<Option<Vec<u32>>> {
        let Some(grouping) = &self.groupings[id] else { return Ok(None) };
        let (forget, retain) = self.values(id)?;
        if let Some(bits) = self.groups(grouping, &forget, &retain, threshold)? {
            return Ok(Some(bits));
        }
        let mut mask = Vec::with_capacity(mask_words(retain.len()));
        for range in pieces(retain.len(), self.piece(device)) {
            let f = self.forget_piece(device, &forget, range.clone())?;
            let r = device.upload_new(&retain[range.clone()])?;
            let piece = self.pair(range.len(), (&f, &r)).select(device, threshold)?;
            mask.extend(device.read::<u32>(&piece, mask_words(range.len()))?);
        }
        Ok(Some(mask))
    }

    /// The mask of whole groups; none where elements are selected one by one.
    fn groups(
        &self,
        grouping: &Grouping,
        forget: &[Vec<f32>],
        retain: &[f32],
        threshold: f32,
    ) -> Result<Option<Vec<u32>>> {
        if self.granularity == Granularity::Element {
            return Ok(None);
        }
        let scores = self.scores(grouping, forget, retain)?;
        Ok(Some(grouping.select(&scores, self.against.blend(), threshold)))
    }

    /// Both importances of `count` elements on the device.
    fn pair<'a>(&self, count: usize, (forget, retain): (&'a Buffer, &'a Buffer)) -> Pair<'a> {
        Pair { count, forget, retain, scales: self.scales() }
    }

    /// Selects and dampens the elements of a parameter that is stored as `bytes`; none where it must not change.
    ///
    /// # Errors
    /// When an importance cannot be read or the device failed.
    pub fn dampen(
        &self,
        device: &Device,
        id: ParameterId,
        (element, bytes): (Element, &[u8]),
        Dampening { threshold, lambda }: Dampening,
    ) -> Result<Option<Edited>> {
        let Some(grouping) = &self.groupings[id] else { return Ok(None) };
        let (forget, retain) = self.values(id)?;
        let groups = self.groups(grouping, &forget, &retain, threshold)?;
        let mut edited = Edited { bytes: bytes.to_vec(), changed: 0, selected: 0, low_rank: None };
        for range in pieces(retain.len(), self.piece(device)) {
            let f = self.forget_piece(device, &forget, range.clone())?;
            let r = device.upload_new(&retain[range.clone()])?;
            let (pair, words) = (self.pair(range.len(), (&f, &r)), mask_words(range.len()));
            let mask: Buffer = match &groups {
                Some(bits) => device.upload_new(&bits[range.start / 32..range.start / 32 + words])?,
                None => pair.select(device, threshold)?,
            };
            let selected = count_selected(&device.read::<u32>(&mask, words)?);
            if selected > 0 {
                edited.selected += selected;
                let stored = &mut edited.bytes[range.start * element.size()..range.end * element.size()];
                pair.dampen(device, &mask, (element, stored), lambda)?;
            }
        }
        edited.changed = differing(element, bytes, &edited.bytes);
        Ok(Some(edited))
    }
}

/// How many elements of two tensors have different bits.
pub(super) fn differing(element: Element, old: &[u8], new: &[u8]) -> u64 {
    let size = element.size();
    old.chunks(size).zip(new.chunks(size)).filter(|(old, new)| old != new).count() as u64
}

/// Elements in a piece: a multiple of 32, so that pieces begin at whole words of a mask and of packed weights.
pub(super) fn piece(device: &Device) -> usize {
    ((device.binding_limit() / 4).min(PIECE as u64) as usize / 32 * 32).max(32)
}

pub(super) fn pieces(count: usize, piece: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(piece).map(move |first| first..(first + piece).min(count))
}

/// For each parameter where its attention heads lie, if it has any: in what makes queries, keys and values they are outputs,
/// in what takes the attention's result inputs.
fn heads(model: &Model) -> Vec<Option<Heads>> {
    let mut heads = vec![None; model.parameters.len()];
    for stage in &model.stages {
        let Stage::Attention(stage) = stage else { continue };
        let dim = stage.heads.head_dim;
        for (input, _) in &stage.inputs {
            let axis = if input.layout == Layout::OutIn { Axis::Rows } else { Axis::Columns };
            heads[input.weight] = Some(Heads { dim, axis });
            if let Some(bias) = input.bias {
                heads[bias] = Some(Heads { dim, axis: Axis::Rows });
            }
        }
        let axis = if stage.output.layout == Layout::OutIn { Axis::Columns } else { Axis::Rows };
        heads[stage.output.weight] = Some(Heads { dim, axis });
    }
    heads
}
