//! The importances of both sets: measured, or read from a file.

use std::sync::Arc;

use efface::Result;
use efface::checkpoint::TensorFile;
use efface::model::batch::Tokens;
use efface::stream::machine_memory;
use efface::unlearn::edit::Comparison;
use efface::unlearn::forget::measure;
use efface::unlearn::forms::{FormSamples, by_form, measure as measure_forms};
use efface::unlearn::measured::Measured;
use efface::unlearn::selection::Combine;
use efface::unlearn::store::{MemoryStore, ScratchStore, Store};

use super::super::input::Input;
use super::{Args, Data, Phases, Run};

/// The retain importance from a file.
pub(super) fn cached(run: &Run<'_>, path: &std::path::Path, warnings: &mut Vec<String>) -> Result<Measured> {
    let file = TensorFile::open(path)?;
    if file.metadata().get("data_sha256") == Some(&run.data.retain.sha256) {
        warnings.push(
            "The retain importance was measured over the whole retain set, the samples held out included: the loss on them \
             may look better than that on fresh ones."
                .into(),
        );
    }
    let kind = run.args.choosing.kind();
    Measured::file(file, &run.input.model, run.input.checkpoint.sha256(), kind, &run.args.measure.names())
}

/// Which of the two sets is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    Forget,
    Retain,
}

pub(super) fn measured(run: &Run<'_>, phases: &mut Phases, set: Set) -> Result<Measured> {
    let Run { args, input, measuring, data, allowed, .. } = *run;
    let (name, samples) = match set {
        Set::Forget => ("measuring the forget set", data.forgotten(false)),
        Set::Retain => ("measuring the retain set", data.retained(false)),
    };
    let pass = input.measuring(measuring, &args.common, None, &args.measure)?;
    let sum = args.choosing.kind().sums()[0];
    let forms = match set {
        Set::Forget => forms(args, data, &samples),
        Set::Retain => None,
    };
    if let Some((combine, forms)) = forms {
        let units = |samples: &[Arc<Tokens>]| args.measure.units(samples);
        let store = || store(args, input, forms.len() + 1);
        return phases
            .run(&args.common, name, |tick| measure_forms(&pass, &forms, (combine, sum), units, allowed, store, tick));
    }
    let units = args.measure.units(&samples);
    let store = store(args, input, 2)?;
    phases.run(&args.common, name, |tick| measure(&pass, &units, sum, allowed, store, tick))
}

/// How the forms are combined and the forget set's samples by form, where that is asked for and there are several.
fn forms(args: &Args, data: &Data, samples: &[Arc<Tokens>]) -> Option<(Combine, Vec<FormSamples>)> {
    let combine = args.choosing.combine?;
    let name = |number: usize| data.forget.samples[number].form.clone().unwrap_or_else(|| "(no form)".into());
    let forms = by_form(samples, name);
    if forms.len() > 1 {
        return Some((combine, forms));
    }
    args.common
        .note("--combine has nothing to combine: the forget set's records are all of one form (their key `form`)");
    None
}

/// Where sums wait: in memory if all `importances`, in single precision, take less than half of what is free.
pub(super) fn store(args: &Args, input: &Input, importances: usize) -> Result<Box<dyn Store + Send + Sync>> {
    match input.model.parameter_count() as u64 * 4 * importances as u64 <= machine_memory() / 2 {
        true => Ok(Box::new(MemoryStore::new(&input.model))),
        false => Ok(Box::new(ScratchStore::beside(&args.out, &input.model)?)),
    }
}

/// Measures both sets' importance, unless that of the retain set is `cached`.
pub(super) fn compare(run: &Run<'_>, cached: Option<Measured>, phases: &mut Phases) -> Result<Comparison> {
    let forget = measured(run, phases, Set::Forget)?;
    let retain = match cached {
        Some(retain) => retain,
        None => measured(run, phases, Set::Retain)?,
    };
    let choosing = &run.args.choosing;
    let against = choosing.against(forget.samples(), retain.samples());
    Comparison::new(run.input.model.clone(), (forget, retain), against, run.allowed, choosing.granularity())
}
