//! Importance for each form of what is to be forgotten, measured in one pass: samples of a form go through the model one after
//! the other and never share a launch, and at every visit each form's sums are brought in, added to and put away in turn. The
//! device holds those of one form at a time.

use std::collections::HashMap;
use std::sync::Arc;

use super::forget::check_losses;
use super::importance::ImportanceSink;
use super::measured::{Form, Measured};
use super::selection::Combine;
use super::store::{Store, as_squares};
use crate::device::Device;
use crate::kernels::Accumulate;
use crate::model::ParameterId;
use crate::model::batch::Tokens;
use crate::model::sink::{Context, MatrixSite, Part, Sink, TableSite, VectorSite};
use crate::stream::{Pass, Progress, Unit};
use crate::{Error, Result};

/// The samples of one form.
#[derive(Clone, Debug)]
pub struct FormSamples {
    /// The form's name.
    pub name: String,
    /// Its samples; a sample's number says which form it is of.
    pub samples: Vec<Arc<Tokens>>,
}

/// Samples by form, in the order in which the forms first occur. `form`: that of the sample of a number.
pub fn by_form(samples: &[Arc<Tokens>], form: impl Fn(usize) -> String) -> Vec<FormSamples> {
    let mut forms: Vec<FormSamples> = Vec::new();
    for sample in samples {
        let name = form(sample.number as usize);
        match forms.iter_mut().find(|form| form.name == name) {
            Some(form) => form.samples.push(sample.clone()),
            None => forms.push(FormSamples { name, samples: vec![sample.clone()] }),
        }
    }
    forms
}

/// Measures the importance of each form, of the parameters that are `wanted`, in one pass: see [`measure`](super::forget::measure). `units` groups a form's samples
/// into what has one gradient; `store` makes a store for each form.
///
/// # Errors
/// When the pass fails, a store cannot be made, a quorum is larger than the number of forms, or a loss is no number.
pub fn measure(
    pass: &Pass,
    forms: &[FormSamples],
    (combine, sum): (Combine, Accumulate),
    units: impl Fn(&[Arc<Tokens>]) -> Vec<Unit>,
    wanted: &[bool],
    mut store: impl FnMut() -> Result<Box<dyn Store + Send + Sync>>,
    progress: Progress<'_>,
) -> Result<Measured> {
    combine.how(forms.len())?;
    let units: Vec<Vec<Unit>> = forms.iter().map(|form| units(&form.samples)).collect();
    let mut form_of = HashMap::new();
    for (number, form) in forms.iter().enumerate() {
        form_of.extend(form.samples.iter().map(|sample| (sample.number, number)));
    }
    let mut stores = forms.iter().map(|_| store()).collect::<Result<Vec<_>>>()?;
    let sinks =
        stores.iter_mut().map(|store| ImportanceSink::new(&pass.model, vec![sum], &mut **store).only(wanted.to_vec()));
    let sinks = sinks.collect();
    let mut sink = FormSink { sinks, form_of, active: None, parts: Vec::new(), visits: HashMap::new() };
    let report = pass.gradients(&units.concat(), &mut sink, progress)?;
    check_losses(&report)?;
    drop(sink);
    let measured = forms.iter().zip(stores).zip(&units);
    let measured = measured
        .map(|((form, store), units)| Form {
            name: form.name.clone(),
            store: as_squares(store, sum),
            units: units.len(),
        })
        .collect();
    Ok(Measured::forms(measured, combine, report.losses.len()))
}

/// A sink for each form, one of them active at a time.
struct FormSink<'a> {
    sinks: Vec<ImportanceSink<'a>>,
    /// The form of the sample of each number.
    form_of: HashMap<u32, usize>,
    active: Option<usize>,
    /// The parts that are being visited.
    parts: Vec<Part>,
    /// How often each form visited a part's rows.
    visits: HashMap<(usize, ParameterId, usize, bool), u32>,
}

impl<'a> FormSink<'a> {
    /// The sink for the samples at hand.
    fn at(&mut self, context: &Context<'_>) -> Result<&mut ImportanceSink<'a>> {
        let sample = context.batch.chunk.keys.first().copied().unwrap_or_default();
        let form = self.form_of.get(&sample).copied();
        let form = form.ok_or_else(|| Error::Device(format!("sample {sample} is of no form")))?;
        if self.active != Some(form) {
            self.leave(context.device)?;
            let mut parts = self.parts.clone();
            for part in &mut parts {
                let visits = self.visits.entry((form, part.parameter, part.rows.start, part.correction)).or_default();
                part.generation = *visits;
                *visits += 1;
            }
            self.sinks[form].begin(context.device, &parts)?;
            self.active = Some(form);
        }
        Ok(&mut self.sinks[form])
    }

    fn leave(&mut self, device: &Device) -> Result<()> {
        self.active.take().map_or(Ok(()), |form| self.sinks[form].end(device))
    }
}

impl Sink for FormSink<'_> {
    fn bytes_per_element(&self) -> u64 {
        self.sinks.first().map_or(0, Sink::bytes_per_element)
    }

    fn wants(&self, parameter: ParameterId) -> bool {
        self.sinks.first().is_some_and(|sink| sink.wants(parameter))
    }

    fn kind_of(&self, sample: u32) -> usize {
        self.form_of.get(&sample).copied().unwrap_or_default()
    }

    fn begin(&mut self, _: &Device, parts: &[Part]) -> Result<()> {
        self.parts = parts.to_vec();
        Ok(())
    }

    fn matrix(&mut self, context: &Context<'_>, site: &MatrixSite<'_>) -> Result<()> {
        self.at(context)?.matrix(context, site)
    }

    fn vector(&mut self, context: &Context<'_>, site: &VectorSite<'_>) -> Result<()> {
        self.at(context)?.vector(context, site)
    }

    fn table(&mut self, context: &Context<'_>, site: &TableSite<'_>) -> Result<()> {
        self.at(context)?.table(context, site)
    }

    fn end(&mut self, device: &Device) -> Result<()> {
        self.leave(device)
    }

    fn settle(&mut self, device: &Device) -> Result<()> {
        self.sinks.iter_mut().try_for_each(|sink| sink.settle(device))
    }
}
