//! The pass: samples through a model, forward and backward, a group at a time.

use std::cell::RefCell;
use std::sync::Arc;

use super::group::Group;
use super::loader::{CheckpointWeights, Loader};
use super::moments::SampleMoments;
use super::objective::{CrossEntropy, Objective, OldStates, SquareNorm};
use super::observer::Observer;
use super::plan::{Demand, Limits, Plan};
use super::terms::{Journal, PassOptions, PassReport, Progress, ResumePoint, SampleLoss, Unit, Weighted};
use crate::checkpoint::Checkpoint;
use crate::device::{Buffer, Device};
use crate::model::Model;
use crate::model::batch::{Chunk, Tokens};
use crate::model::head::LossKind;
use crate::model::sink::Sink;
use crate::model::weights::WeightSource;
use crate::{Element, Error, Result};

/// A model on a device, ready for passes.
#[derive(Debug)]
pub struct Pass {
    /// The device.
    pub device: Device,
    /// The model.
    pub model: Arc<Model>,
    source: Arc<dyn WeightSource>,
    elements: Vec<Element>,
    options: PassOptions,
}

impl std::fmt::Debug for dyn WeightSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeightSource")
    }
}

impl Pass {
    /// Passes over a checkpoint as it is.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn new(device: &Device, model: Arc<Model>, checkpoint: Arc<Checkpoint>, options: PassOptions) -> Result<Self> {
        Pass::over(device, model, Arc::new(CheckpointWeights::new(checkpoint)), options)
    }

    /// Passes over weights from any source.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn over(
        device: &Device,
        model: Arc<Model>,
        source: Arc<dyn WeightSource>,
        options: PassOptions,
    ) -> Result<Self> {
        let elements = model.parameters.iter().map(|p| source.element(p)).collect::<Result<_>>()?;
        Ok(Pass { device: device.clone(), model, source, elements, options })
    }

    /// The same passes on another handle of the device.
    #[must_use]
    pub fn on(&self, device: &Device) -> Self {
        Pass {
            device: device.clone(),
            model: self.model.clone(),
            source: self.source.clone(),
            elements: self.elements.clone(),
            options: self.options,
        }
    }

    /// The parameters' element types.
    pub fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// Plans a pass without doing it.
    ///
    /// # Errors
    /// [`Error::Budget`] with the smallest budget that would do.
    pub fn plan(&self, demand: &Demand) -> Result<Plan> {
        Plan::new(&self.model, &self.elements, demand, &self.limits())
    }

    /// The memory that a plan may count on.
    pub fn limits(&self) -> Limits {
        Limits { reserved: self.source.device_bytes(), ..Limits::of(&self.device, self.options.host_memory) }
    }

    /// A loader of the model's weights.
    pub(super) fn loader(&self, resident: bool) -> Loader {
        Loader::new(self.model.clone(), self.source.clone(), &self.device, resident)
    }

    /// What a pass over `units` asks for.
    pub fn demand(&self, units: &[Unit], sink: Option<&dyn Sink>) -> Demand {
        let kind = |unit: &Unit| match (sink, unit.first()) {
            (Some(sink), Some(first)) => sink.kind_of(first.tokens.number),
            _ => 0,
        };
        Demand {
            breaks: (1..units.len()).filter(|i| kind(&units[*i]) != kind(&units[i - 1])).collect(),
            units: units.iter().map(|unit| unit.iter().map(|s| s.tokens.ids.len()).sum()).collect(),
            backward: sink.is_some(),
            sink_bytes: sink.map_or(0, Sink::bytes_per_element),
            sink_beside: sink.map_or(0, Sink::bytes_beside),
            units_per_launch: self.options.units_per_launch,
            old: false,
        }
    }

    /// What gradients are of, where no objective is named.
    fn objective(&self) -> &'static dyn Objective {
        match self.options.loss {
            LossKind::CrossEntropy => &CrossEntropy,
            LossKind::SquareNorm => &SquareNorm,
        }
    }

    /// The losses of samples, forward only.
    ///
    /// # Errors
    /// When a sample does not fit the model or the budget, or the device failed.
    pub fn losses(&self, samples: &[Arc<Tokens>], progress: Progress<'_>) -> Result<Vec<SampleLoss>> {
        let units = single_units(samples);
        Ok(self.run(&units, &CrossEntropy, None, None, None, progress)?.losses)
    }

    /// What the distributions of this model, at every position of every sample, are made of: for the divergence from it of
    /// another with the same final norm and head.
    ///
    /// # Errors
    /// As [`Pass::losses`].
    pub fn states(&self, samples: &[Arc<Tokens>], progress: Progress<'_>) -> Result<Vec<OldStates>> {
        let mut states = Vec::with_capacity(samples.len());
        self.each_group(samples, progress, &mut |group| group.states(&mut states))?;
        Ok(states)
    }

    /// How the log-probabilities over the vocabulary lie at every target of samples, forward only.
    ///
    /// # Errors
    /// As [`Pass::losses`].
    pub fn moments(&self, samples: &[Arc<Tokens>], progress: Progress<'_>) -> Result<Vec<SampleMoments>> {
        let mut moments = Vec::with_capacity(samples.len());
        self.each_group(samples, progress, &mut |group| group.moments(&mut moments))?;
        Ok(moments)
    }

    /// Plans a way forward for samples and does it, a group at a time.
    fn each_group(
        &self,
        samples: &[Arc<Tokens>],
        progress: Progress<'_>,
        visit: &mut dyn FnMut(&mut Group<'_>) -> Result<()>,
    ) -> Result<()> {
        let units = single_units(samples);
        self.check(&units)?;
        let plan = self.plan(&self.demand(&units, None))?;
        let (loader, rotary) = (self.loader(plan.weights_resident), self.rotary(&units)?);
        for number in 0..plan.groups.len() {
            let setting = (&plan, &loader, rotary.as_ref(), number);
            visit(&mut self.group(setting, &units, &CrossEntropy, progress))?;
            self.device.free_scratch();
        }
        Ok(())
    }

    /// Runs `units` forward and backward and hands every gradient to `sink`.
    ///
    /// # Errors
    /// When a sample does not fit the model or the budget, or the device failed.
    pub fn gradients(&self, units: &[Unit], sink: &mut dyn Sink, progress: Progress<'_>) -> Result<PassReport> {
        self.gradients_of(self.objective(), units, sink, progress)
    }

    /// As [`Pass::gradients`], of another loss than the weighted cross-entropy.
    ///
    /// # Errors
    /// As [`Pass::gradients`], or when the objective is for another number of samples.
    pub fn gradients_of(
        &self,
        objective: &dyn Objective,
        units: &[Unit],
        sink: &mut dyn Sink,
        progress: Progress<'_>,
    ) -> Result<PassReport> {
        self.run(units, objective, Some(sink), None, None, progress)
    }

    /// As [`Pass::gradients`], telling `journal` of every completed visit and going on from `resume`.
    ///
    /// # Errors
    /// As [`Pass::gradients`], or when the journal cannot be written.
    pub fn resumable_gradients(
        &self,
        units: &[Unit],
        sink: &mut dyn Sink,
        journal: &mut dyn Journal,
        resume: Option<ResumePoint>,
        progress: Progress<'_>,
    ) -> Result<PassReport> {
        self.run(units, self.objective(), Some(sink), Some(journal), resume, progress)
    }

    /// Plans what [`observe`](Pass::observe) does, for an observer that holds `beside` bytes on the device.
    ///
    /// # Errors
    /// [`Error::Budget`] with the smallest budget that would do.
    pub fn observation_plan(&self, samples: &[Arc<Tokens>], beside: u64) -> Result<Plan> {
        let limits = self.limits();
        let limits = Limits { reserved: limits.reserved.saturating_add(beside), ..limits };
        Plan::new(&self.model, &self.elements, &self.demand(&single_units(samples), None), &limits)
    }

    /// Runs samples forward, as far as `observer` wants to see.
    ///
    /// # Errors
    /// When a sample does not fit the model or the budget, the observer's last stage is no layer's, or the device failed.
    pub fn observe(
        &self,
        samples: &[Arc<Tokens>],
        observer: &mut dyn Observer,
        progress: Progress<'_>,
    ) -> Result<Plan> {
        let top = observer.last_stage();
        if top == 0 || top + 1 >= self.model.stages.len() {
            return Err(Error::argument(format!("stage {top} is not a layer's, so that it cannot be watched")));
        }
        let units = single_units(samples);
        self.check(&units)?;
        let plan = self.observation_plan(samples, observer.device_bytes())?;
        let loader = self.loader(plan.weights_resident);
        let rotary = self.rotary(&units)?;
        let groups = plan.groups.len() as u64;
        for (number, chunks) in plan.groups.iter().enumerate() {
            // A group counts its stages from where all those before it would have ended, had they gone on to the last one.
            let before = number as u64 * 2 * (self.model.stages.len() - 1) as u64;
            let tick = |done: u64, _| progress(number as u64 * top as u64 + done - before, groups * top as u64);
            let chunks = plan.chunks[chunks.clone()].iter().map(|range| chunk(&units[range.clone()])).collect();
            let mut group = Group {
                device: &self.device,
                model: &self.model,
                loader: &loader,
                plan: &plan,
                rotary: rotary.as_ref(),
                labels: self.options.labels,
                objective: &CrossEntropy,
                intervention: None,
                number,
                chunks,
                batches: RefCell::default(),
                progress: &tick,
            };
            group.observe(observer)?;
            self.device.free_scratch();
        }
        Ok(plan)
    }

    fn run(
        &self,
        units: &[Unit],
        objective: &dyn Objective,
        mut sink: Option<&mut dyn Sink>,
        mut journal: Option<&mut dyn Journal>,
        mut resume: Option<ResumePoint>,
        progress: Progress<'_>,
    ) -> Result<PassReport> {
        self.check(units)?;
        let samples: usize = units.iter().map(Vec::len).sum();
        if let Some(known) = objective.samples().filter(|known| *known != samples) {
            return Err(Error::argument(format!("an objective for {known} samples; the pass has {samples}")));
        }
        let demand = Demand { old: objective.diverges(), ..self.demand(units, sink.as_deref()) };
        let plan = {
            let _span = self.device.span(|| "planning".into());
            self.plan(&demand)?
        };
        let loader = self.loader(plan.weights_resident);
        let rotary = self.rotary(units)?;
        // A group whose first stage was visited is complete.
        let first_group = resume.as_ref().map_or(0, |point| point.group + usize::from(point.stage == 0));
        let mut losses = resume.as_mut().map(|point| std::mem::take(&mut point.losses)).unwrap_or_default();
        resume = resume.filter(|point| point.stage > 0);
        for number in first_group..plan.groups.len() {
            let _span = self.device.span(|| format!("group {} of {}", number + 1, plan.groups.len()));
            let mut group = self.group((&plan, &loader, rotary.as_ref(), number), units, objective, progress);
            let at = resume.take();
            match &mut sink {
                Some(sink) => {
                    let journal: Option<&mut dyn Journal> = match &mut journal {
                        Some(journal) => Some(&mut **journal),
                        None => None,
                    };
                    group.gradients(&mut **sink, journal, at, &mut losses)?;
                }
                None => group.losses(&mut losses)?,
            }
        }
        self.device.free_scratch();
        Ok(PassReport { losses, plan })
    }

    /// A group of a plan.
    pub(super) fn group<'a>(
        &'a self,
        (plan, loader, rotary, number): (&'a Plan, &'a Loader, Option<&'a Buffer>, usize),
        units: &[Unit],
        objective: &'a dyn Objective,
        progress: Progress<'a>,
    ) -> Group<'a> {
        let chunks = plan.chunks[plan.groups[number].clone()].iter();
        Group {
            device: &self.device,
            model: &self.model,
            loader,
            plan,
            rotary,
            labels: self.options.labels,
            objective,
            intervention: None,
            number,
            chunks: chunks.map(|range| chunk(&units[range.clone()])).collect(),
            batches: RefCell::default(),
            progress,
        }
    }

    pub(super) fn check(&self, units: &[Unit]) -> Result<()> {
        let config = &self.model.config;
        for sample in units.iter().flatten().map(|s| &s.tokens) {
            let (length, number) = (sample.ids.len(), sample.number);
            if length > config.context {
                let context = config.context;
                return Err(Error::argument(format!(
                    "sample {number} has {length} tokens; the model's context is {context}"
                )));
            }
            let vocabulary = config.vocabulary as u32;
            let mut targets = sample.targets.iter().filter(|t| **t != crate::kernels::loss::NO_TARGET);
            if length == 0 || sample.ids.iter().any(|id| *id >= vocabulary) || targets.any(|t| *t >= vocabulary) {
                let problem = format!("sample {number} is empty or has a token outside the vocabulary of {vocabulary}");
                return Err(Error::argument(problem));
            }
        }
        Ok(())
    }

    /// The rotary table for the longest sample.
    pub(super) fn rotary(&self, units: &[Unit]) -> Result<Option<Buffer>> {
        let longest = units.iter().flatten().map(|s| s.tokens.ids.len()).max().unwrap_or(1);
        self.model.config.rope.map(|rope| self.device.upload_new(&rope.table(longest))).transpose()
    }
}

/// Every sample a unit.
pub(super) fn single_units(samples: &[Arc<Tokens>]) -> Vec<Unit> {
    samples.iter().map(|tokens| vec![Weighted { tokens: tokens.clone(), weight: 1.0 }]).collect()
}

fn chunk(units: &[Unit]) -> Chunk {
    let mut chunk = Chunk::new();
    for unit in units {
        let samples: Vec<(&Tokens, f32)> = unit.iter().map(|s| (&*s.tokens, s.weight)).collect();
        chunk.push_unit(&samples);
    }
    chunk
}

/// Bytes of memory that the machine has; 8 GiB where it does not say.
pub fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.map_or(8 << 30, |k| k * 1024)
}
