//! Importance: what each parameter means to a set of samples. A sink that accumulates per-sample gradients squared, as
//! magnitudes or as they are, and the figures made of these sums.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use super::store::Store;
use crate::checkpoint::{AtomicFile, Declaration, Dtype, TensorFileWriter};
use crate::device::{Device, Download, Lease, OnHost};
use crate::kernels::{Accumulate, Window, embedding, linear, vector};
use crate::model::sink::{Context, MatrixSite, Part, Sink, TableSite, VectorSite};
use crate::model::weights::slice_rows;
use crate::model::{Model, ParameterId};
use crate::{Error, Result};

/// A figure per parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Mean of g²: the Fisher diagonal.
    Fisher,
    /// Mean of |g|.
    Abs,
    /// Mean of g.
    Mean,
    /// Mean of g² less the square of the mean of g.
    Variance,
}

impl Kind {
    /// The name in `--kind` and in file metadata.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Fisher => "fisher",
            Kind::Abs => "abs",
            Kind::Mean => "mean",
            Kind::Variance => "variance",
        }
    }

    /// The sums that it is made of.
    pub fn sums(self) -> &'static [Accumulate] {
        match self {
            Kind::Fisher => &[Accumulate::Square],
            Kind::Abs => &[Accumulate::Magnitude],
            Kind::Mean => &[Accumulate::Sum],
            Kind::Variance => &[Accumulate::Square, Accumulate::Sum],
        }
    }

    /// The sums that several kinds are made of, each once.
    pub fn sums_of(kinds: &[Kind]) -> Vec<Accumulate> {
        Accumulate::ALL.into_iter().filter(|a| kinds.iter().any(|kind| kind.sums().contains(a))).collect()
    }

    /// The figure of all elements of a parameter, from the sums over `units` units.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn figure(self, store: &dyn Store, parameter: ParameterId, units: usize) -> Result<Vec<f32>> {
        let scale = 1.0 / units as f64;
        let mut sums = self.sums().iter().map(|a| store.all(parameter, *a)).collect::<Result<Vec<_>>>()?;
        let mut first = sums.swap_remove(0);
        match sums.pop() {
            None => first.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32),
            Some(means) => {
                for (square, sum) in first.iter_mut().zip(means) {
                    let mean = f64::from(sum) * scale;
                    // Rounding of the sums can take a vanishing variance below zero.
                    *square = (f64::from(*square) * scale - mean * mean).max(0.0) as f32;
                }
            }
        }
        Ok(first)
    }
}

impl FromStr for Kind {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        [Kind::Fisher, Kind::Abs, Kind::Mean, Kind::Variance]
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| Error::argument(format!("{text:?} is no kind; right are fisher, abs, mean and variance")))
    }
}

/// Accumulates gradients into a store.
pub struct ImportanceSink<'a> {
    accumulate: Vec<Accumulate>,
    wanted: Vec<bool>,
    store: &'a mut dyn Store,
    active: Vec<Active>,
    leaving: Vec<Leaving>,
    names: Vec<String>,
}

/// A part's sums on their way from the device, a download for each slice of its rows.
struct Leaving {
    part: Part,
    accumulate: Accumulate,
    slices: Vec<Download<f32>>,
}

/// A part on the device: for each slice of its rows a buffer for each kind of accumulation.
pub(super) struct Active {
    pub(super) part: Part,
    pub(super) slices: Vec<(Range<usize>, Vec<Lease>)>,
}

impl std::fmt::Debug for ImportanceSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportanceSink").field("accumulate", &self.accumulate).finish_non_exhaustive()
    }
}

impl<'a> ImportanceSink<'a> {
    /// A sink for these sums of all parameters.
    pub fn new(model: &Model, accumulate: Vec<Accumulate>, store: &'a mut dyn Store) -> Self {
        ImportanceSink {
            accumulate,
            wanted: vec![true; model.parameters.len()],
            store,
            active: Vec::new(),
            leaving: Vec::new(),
            names: model.parameters.iter().map(|parameter| parameter.name.clone()).collect(),
        }
    }

    /// Only of the parameters for which `wanted` is set.
    #[must_use]
    pub fn only(mut self, wanted: Vec<bool>) -> Self {
        self.wanted = wanted;
        self
    }

    /// What this visit accumulated, still on the device; it is no longer the sink's.
    pub(super) fn take(&mut self) -> Vec<Active> {
        std::mem::take(&mut self.active)
    }

    /// Brings what a part accumulated to the store.
    pub(super) fn store(&mut self, device: &Device, active: &Active) -> Result<()> {
        let leaving = self.leaving(device, active)?;
        self.keep(device, leaving)?;
        self.settle(device)
    }

    /// All of a parameter's sums that were stored.
    pub(super) fn stored(&self, parameter: ParameterId, accumulate: Accumulate) -> Result<Vec<f32>> {
        self.store.all(parameter, accumulate)
    }

    fn active(&self, parameter: ParameterId) -> Result<&Active> {
        let found = self.active.iter().find(|active| active.part.parameter == parameter);
        found.ok_or_else(|| Error::Device(format!("parameter {parameter} is not being visited")))
    }
}

impl Sink for ImportanceSink<'_> {
    fn bytes_per_element(&self) -> u64 {
        4 * self.accumulate.len() as u64
    }

    fn wants(&self, parameter: ParameterId) -> bool {
        self.wanted[parameter]
    }

    fn begin(&mut self, device: &Device, parts: &[Part]) -> Result<()> {
        for part in parts {
            let mut slices = Vec::new();
            for rows in slice_rows(part.rows.clone(), part.columns, device.binding_limit()) {
                let buffers =
                    self.accumulate.iter().map(|accumulate| self.sums_so_far(device, part, *accumulate, &rows));
                slices.push((rows.clone(), buffers.collect::<Result<Vec<_>>>()?));
            }
            self.active.push(Active { part: part.clone(), slices });
        }
        Ok(())
    }

    fn matrix(&mut self, ctx: &Context<'_>, site: &MatrixSite<'_>) -> Result<()> {
        let covered = site.first_row..site.first_row + site.rows;
        for (rows, buffers) in &self.active(site.parameter)?.slices {
            if rows.start >= covered.end || rows.end <= covered.start {
                continue;
            }
            if rows.start < covered.start || rows.end > covered.end {
                return Err(Error::Device("a site covers a part of an importance slice".into()));
            }
            let left = Window::at(site.left.buffer, site.left.stride, site.left.offset + rows.start - covered.start);
            for (accumulate, importance) in self.accumulate.iter().zip(buffers) {
                let units = ctx.batch.units();
                let (rows, columns) = (rows.len(), site.columns);
                linear::weight_importance::run(
                    ctx.device,
                    *accumulate,
                    units,
                    left,
                    site.right,
                    rows,
                    columns,
                    importance,
                )?;
            }
        }
        Ok(())
    }

    fn vector(&mut self, ctx: &Context<'_>, site: &VectorSite<'_>) -> Result<()> {
        let (_, buffers) = &self.active(site.parameter)?.slices[0];
        for (accumulate, importance) in self.accumulate.iter().zip(buffers) {
            let (units, rows_per_token) = (ctx.batch.units(), site.rows_per_token);
            vector::importance::run(
                ctx.device,
                *accumulate,
                units,
                rows_per_token,
                site.terms,
                site.width,
                importance,
            )?;
        }
        Ok(())
    }

    fn table(&mut self, ctx: &Context<'_>, site: &TableSite<'_>) -> Result<()> {
        let TableSite { index, delta, columns, .. } = *site;
        for (rows, buffers) in &self.active(site.parameter)?.slices {
            let (first, count) = (rows.start, rows.len());
            for (accumulate, importance) in self.accumulate.iter().zip(buffers) {
                let (device, how) = (ctx.device, *accumulate);
                match site.head_rows {
                    None => embedding::importance::run(device, how, index, delta, columns, first, count, importance)?,
                    Some(head) => {
                        embedding::tied_importance::run(
                            device, how, index, delta, columns, head, first, count, importance,
                        )?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins the downloads of this visit, and meanwhile stores the one before.
    fn end(&mut self, device: &Device) -> Result<()> {
        if device.is_cpu() {
            return self.take().into_iter().try_for_each(|active| self.keep_in_place(device, active));
        }
        let mut leaving = Vec::new();
        for active in self.take() {
            leaving.extend(self.leaving(device, &active)?);
        }
        // Without this the device would hear of the downloads only when something waits for them.
        device.submit()?;
        self.keep(device, leaving)
    }

    fn settle(&mut self, device: &Device) -> Result<()> {
        self.keep(device, Vec::new())
    }
}

impl ImportanceSink<'_> {
    /// What rows of a part hold when its visit begins, on the device.
    fn sums_so_far(&self, device: &Device, part: &Part, accumulate: Accumulate, rows: &Range<usize>) -> Result<Lease> {
        let first = (rows.start - part.rows.start) * part.columns;
        let count = rows.len() * part.columns;
        let buffer = device.scratch(count as u64 * 4)?;
        if part.generation == 0 {
            device.clear(&buffer)?;
        } else {
            device.fill(&buffer, count, |range, values| {
                self.store.load(part, accumulate, first + range.start..first + range.end, values)
            })?;
        }
        Ok(buffer)
    }

    /// Stores a part from where it lies on the CPU, without a copy of it.
    fn keep_in_place(&mut self, device: &Device, Active { part, slices }: Active) -> Result<()> {
        let _span = device.span(|| format!("storing the importance of {}", self.names[part.parameter]));
        let mut kinds: Vec<Vec<OnHost>> = self.accumulate.iter().map(|_| Vec::new()).collect();
        for (rows, buffers) in slices {
            for (kind, buffer) in kinds.iter_mut().zip(buffers) {
                kind.push(device.on_host(buffer, rows.len() * part.columns)?);
            }
        }
        for (accumulate, slices) in self.accumulate.iter().zip(kinds) {
            let bring = move |write: &mut dyn FnMut(&[f32]) -> Result<()>| {
                slices.iter().try_for_each(|slice| slice.with(&mut *write))
            };
            self.store.save_later(&part, *accumulate, Box::new(bring))?;
        }
        Ok(())
    }

    /// Begins the downloads of a part.
    fn leaving(&self, device: &Device, Active { part, slices }: &Active) -> Result<Vec<Leaving>> {
        let of = |(i, accumulate): (usize, &Accumulate)| {
            let slice = |(rows, buffers): &(Range<usize>, Vec<Lease>)| {
                device.read_later(&buffers[i], rows.len() * part.columns)
            };
            let slices = slices.iter().map(slice).collect::<Result<_>>()?;
            Ok(Leaving { part: part.clone(), accumulate: *accumulate, slices })
        };
        self.accumulate.iter().enumerate().map(of).collect()
    }

    /// Stores what is leaving the device, after which `next` is.
    fn keep(&mut self, device: &Device, next: Vec<Leaving>) -> Result<()> {
        for Leaving { part, accumulate, slices } in std::mem::replace(&mut self.leaving, next) {
            let mut slices = slices.into_iter().map(Download::finish);
            let mut values: Vec<f32> = slices.next().transpose()?.unwrap_or_default();
            for slice in slices {
                values.extend_from_slice(&slice?);
            }
            let _span = device.span(|| format!("storing the importance of {}", self.names[part.parameter]));
            self.store.save(&part, accumulate, values)?;
        }
        Ok(())
    }
}

/// Writes a kind of importance as a safetensors file: `F32`, under the checkpoint's tensor names and shapes.
///
/// # Errors
/// When the store cannot be read or the file cannot be written.
pub fn write_importance(
    file: AtomicFile,
    model: &Model,
    kind: Kind,
    store: &dyn Store,
    units: usize,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let declare =
        |p: &crate::model::Parameter| Declaration { name: p.name.clone(), dtype: Dtype::F32, shape: p.shape.clone() };
    let declarations: Vec<_> = model.parameters.iter().map(declare).collect();
    let mut metadata = metadata.clone();
    metadata.insert("kind".into(), kind.name().into());
    let mut writer = TensorFileWriter::new(file, &declarations, &metadata)?;
    for (id, parameter) in model.parameters.iter().enumerate() {
        writer.append_f32(&parameter.name, &kind.figure(store, id, units)?)?;
    }
    writer.commit()
}
