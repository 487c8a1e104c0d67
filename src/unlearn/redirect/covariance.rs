//! The uncentred covariance E[kkᵀ] of what enters a layer's projection down, over ordinary text: what the layer's keys usually
//! look like. Streamed as every pass; where C does not fit the device, it is made in blocks of rows, each by a sweep of its own.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::checkpoint::{AtomicFile, Declaration, Dtype, TensorFile, TensorFileWriter};
use crate::device::{Buffer, Device};
use crate::kernels::Window;
use crate::kernels::linear::covariance::{self, BLOCK_ROWS};
use crate::model::batch::Tokens;
use crate::model::parameters::{Layout, Linear};
use crate::model::sink::Context;
use crate::model::{Model, ParameterId, Stage};
use crate::stream::{Observer, Pass, Progress};
use crate::{Element, Error, Result};

/// Tokens that one launch takes: the list of them lies on the device.
const PIECE: usize = 1024;
/// What the file's metadata call it.
const KIND: &str = "covariance";

/// A place that is edited: a layer's projection down.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The layer.
    pub layer: usize,
    /// Its feed-forward block's stage.
    pub stage: usize,
    /// The matrix.
    pub parameter: ParameterId,
    /// How it is stored.
    pub layout: Layout,
    /// Features in: the length of a key.
    pub inputs: usize,
    /// Features out: the width of the residual stream.
    pub outputs: usize,
}

/// The projections down of `layers`, ascending.
///
/// # Errors
/// When a layer is named twice, the model has no such layer, or there is none.
pub fn sites(model: &Model, layers: &[usize]) -> Result<Vec<Site>> {
    let mut sorted = layers.to_vec();
    sorted.sort_unstable();
    let count = (model.stages.len() - 2) / 2;
    if let Some(layer) = sorted.iter().find(|layer| **layer >= count) {
        return Err(Error::argument(format!("there is no layer {layer}: the model's are 0 to {}", count - 1)));
    }
    if sorted.is_empty() || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::argument("the layers to be edited are a list of at least one, each named once"));
    }
    let site = |layer: usize| {
        let stage = 2 * layer + 2;
        match &model.stages[stage] {
            Stage::Mlp(block) => {
                let Linear { weight: parameter, layout, inputs, outputs, .. } = block.down;
                Ok(Site { layer, stage, parameter, layout, inputs, outputs })
            }
            _ => Err(Error::Device(format!("stage {stage} is no feed-forward block"))),
        }
    };
    sorted.into_iter().map(site).collect()
}

/// The mean of kkᵀ over tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Covariance {
    /// Features.
    pub width: usize,
    /// Symmetric, `[width, width]`.
    pub values: Vec<f32>,
}

/// Measures the covariances at `sites` over all tokens of `samples`.
///
/// # Errors
/// When there is no sample, a number is not finite, or the pass fails.
pub fn measure(
    pass: &Pass,
    sites: &[Site],
    samples: &[Arc<Tokens>],
    progress: Progress<'_>,
) -> Result<Vec<Covariance>> {
    let tokens: usize = samples.iter().map(|sample| sample.ids.len()).sum();
    if tokens == 0 || sites.is_empty() {
        return Err(Error::argument("a covariance needs text: there is no token"));
    }
    let width = sites[0].inputs;
    let rows = block_rows(pass, width, samples)?;
    let sums = sites.iter().map(|site| vec![0.0; site.inputs * site.inputs]).collect();
    let mut observer = Sums { sites, sums, block: 0..0, place: None };
    let blocks = width.div_ceil(rows) as u64;
    for (number, first) in (0..width).step_by(rows).enumerate() {
        observer.block = first..(first + rows).min(width);
        let tick = |done: u64, of: u64| progress(number as u64 * of + done, blocks * of);
        pass.observe(samples, &mut observer, &tick)?;
    }
    let scale = (1.0 / tokens as f64) as f32;
    observer.sums.into_iter().zip(sites).map(|(sums, site)| mean(sums, site, scale)).collect()
}

/// Device bytes that measuring takes beside the pass, at least.
pub fn smallest_device_bytes(width: usize) -> u64 {
    beside(BLOCK_ROWS.min(width), width)
}

fn beside(rows: usize, width: usize) -> u64 {
    (rows * width * 4 + PIECE * 4) as u64
}

/// The most rows of C that fit beside the pass.
fn block_rows(pass: &Pass, width: usize, samples: &[Arc<Tokens>]) -> Result<usize> {
    let mut rows = width;
    loop {
        let bindable = (rows * width * 4) as u64 <= pass.device.binding_limit();
        match pass.observation_plan(samples, beside(rows, width)) {
            Ok(_) if bindable => return Ok(rows),
            Err(error) if rows <= BLOCK_ROWS || !matches!(error, Error::Budget { .. }) => return Err(error),
            _ => {}
        }
        if rows <= BLOCK_ROWS {
            return Err(Error::Device(format!("{BLOCK_ROWS} rows of {width} numbers exceed the device's buffers")));
        }
        rows = (rows / 2).next_multiple_of(BLOCK_ROWS);
    }
}

/// The mean, with the half below the diagonal filled in.
fn mean(mut sums: Vec<f32>, site: &Site, scale: f32) -> Result<Covariance> {
    let width = site.inputs;
    for r in 0..width {
        for c in r..width {
            let value = sums[r * width + c] * scale;
            (sums[r * width + c], sums[c * width + r]) = (value, value);
        }
    }
    match sums.iter().all(|value| value.is_finite()) {
        true => Ok(Covariance { width, values: sums }),
        false => Err(Error::Failed(format!("the covariance of layer {} is not finite", site.layer))),
    }
}

/// Sums over the tokens, a block of rows of every site.
struct Sums<'a> {
    sites: &'a [Site],
    /// On the host, whole.
    sums: Vec<Vec<f32>>,
    block: Range<usize>,
    /// The site being visited, and its block on the device.
    place: Option<(usize, Buffer)>,
}

impl Sums<'_> {
    /// The block's elements in a site's sums.
    fn elements(&self, site: usize) -> Range<usize> {
        let width = self.sites[site].inputs;
        self.block.start * width..self.block.end * width
    }
}

impl Observer for Sums<'_> {
    fn last_stage(&self) -> usize {
        self.sites.last().map_or(0, |site| site.stage)
    }

    fn device_bytes(&self) -> u64 {
        beside(self.block.len(), self.sites[0].inputs)
    }

    fn begin(&mut self, device: &Device, stage: usize) -> Result<()> {
        if let Some(site) = self.sites.iter().position(|site| site.stage == stage) {
            self.place = Some((site, device.upload_new(&self.sums[site][self.elements(site)])?));
        }
        Ok(())
    }

    fn site(&mut self, context: &Context<'_>, stage: usize, linear: &Linear, x: Window<'_>) -> Result<()> {
        let Some((site, sums)) = &self.place else { return Ok(()) };
        let site = &self.sites[*site];
        if site.stage != stage || site.parameter != linear.weight {
            return Ok(());
        }
        for first in (0..context.tokens()).step_by(PIECE) {
            let selected: Vec<u32> = (first..context.tokens().min(first + PIECE)).map(|token| token as u32).collect();
            let list = context.device.upload_new(&selected)?;
            let rows = (self.block.start, self.block.len());
            covariance::run(context.device, (selected.len(), &list), x, site.inputs, rows, sums)?;
        }
        Ok(())
    }

    fn end(&mut self, device: &Device, _: usize) -> Result<()> {
        let Some((site, sums)) = self.place.take() else { return Ok(()) };
        let elements = self.elements(site);
        device.download(&sums, 0, bytemuck::cast_slice_mut(&mut self.sums[site][elements]))
    }
}

/// What identifies a text: SHA-256, in hexadecimal, of its samples' tokens.
pub fn digest(samples: &[Arc<Tokens>]) -> String {
    let mut hash = Sha256::new();
    for sample in samples {
        hash.update((sample.ids.len() as u64).to_le_bytes());
        sample.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which model and text covariances belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Of the checkpoint.
    pub model_sha256: String,
    /// Of the text.
    pub data_sha256: String,
}

/// Writes covariances, each under its parameter's name.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write(
    path: &Path,
    model: &Model,
    (sites, covariances): (&[Site], &[Covariance]),
    of: &Provenance,
    tokens: usize,
) -> Result<()> {
    let declare = |site: &Site| Declaration {
        name: model.parameters[site.parameter].name.clone(),
        dtype: Dtype::F32,
        shape: vec![site.inputs, site.inputs],
    };
    let declared: Vec<Declaration> = sites.iter().map(declare).collect();
    let metadata: BTreeMap<String, String> = [
        ("kind", KIND.to_string()),
        ("model_sha256", of.model_sha256.clone()),
        ("data_sha256", of.data_sha256.clone()),
        ("tokens", tokens.to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_string(), value))
    .collect();
    let mut writer = TensorFileWriter::new(AtomicFile::create(path)?, &declared, &metadata)?;
    for (declared, covariance) in declared.iter().zip(covariances) {
        writer.append_f32(&declared.name, &covariance.values)?;
    }
    writer.commit()
}

/// Reads the covariances at `sites`.
///
/// # Errors
/// When the file is of another kind, model or text, or lacks a site, or holds what no covariance can be.
pub fn read(path: &Path, model: &Model, sites: &[Site], of: &Provenance) -> Result<Vec<Covariance>> {
    let file = TensorFile::open(path)?;
    let key = |name: &str| file.metadata().get(name).cloned().unwrap_or_default();
    let checks = [("kind", KIND), ("model_sha256", of.model_sha256.as_str()), ("data_sha256", of.data_sha256.as_str())];
    for (name, right) in checks {
        if key(name) != right {
            let problem = format!("is {:?}; for this model and this text it would be {right:?}", key(name));
            return Err(Error::file(path, format!("metadata `{name}`"), problem));
        }
    }
    let one = |site: &Site| {
        let name = &model.parameters[site.parameter].name;
        let wrong = |problem: String| Error::file(path, name, problem);
        let tensor = file.tensor(name).ok_or_else(|| {
            wrong("the tensor is missing; measure again with these --layers, into another file".into())
        })?;
        let width = site.inputs;
        if tensor.shape != [width, width] || tensor.element != Some(Element::F32) {
            return Err(wrong(format!("is {} {:?}; right is F32 [{width}, {width}]", tensor.dtype, tensor.shape)));
        }
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(file.bytes(tensor));
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            return Err(wrong(format!("element {place} is not finite")));
        }
        let diagonal = (0..width).map(|i| values[i * width + i]).find(|value| *value < 0.0);
        let symmetric = (0..width).all(|r| (0..r).all(|c| values[r * width + c] == values[c * width + r]));
        if diagonal.is_some() || !symmetric {
            return Err(wrong(
                "is no covariance: it is not symmetric, or has an element below 0 on its diagonal".into(),
            ));
        }
        Ok(Covariance { width, values })
    };
    sites.iter().map(one).collect()
}
