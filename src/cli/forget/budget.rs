//! Whether every phase of the run fits the memory budgets, found out before the first: a run that is refused after an hour,
//! with a budget that the next phase refuses again, would be a bad joke.

use std::sync::Arc;

use efface::device::Device;
use efface::model::batch::Tokens;
use efface::stream::{DecodePlan, Demand, Labels, Limits, Pass, Plan, Unit, Weighted};
use efface::unlearn::edit::Comparison;
use efface::unlearn::importance::ImportanceSink;
use efface::unlearn::store::MemoryStore;
use efface::{Error, Result};

use super::super::input::{Input, tokens};
use super::probe::Probing;
use super::{Args, Data};

/// Plans all phases.
///
/// # Errors
/// [`Error::Budget`] with the smallest budget that does for all of them.
pub fn check(
    args: &Args,
    input: &Input,
    device: &Device,
    data: &Data,
    probing: &Probing,
    allowed: &[bool],
) -> Result<()> {
    let pass = input.pass(device, &args.common, None, Labels::Data)?;
    let edit = Comparison::device_bytes(&input.model, allowed, device);
    let limits = pass.limits();
    let beside = Limits { reserved: limits.reserved + edit, ..limits };
    let plan = |demand: &Demand, limits: &Limits| Plan::new(&input.model, pass.elements(), demand, limits).map(drop);
    let mut worst = Worst::default();

    let mut store = MemoryStore::new(&input.model);
    let sink = ImportanceSink::new(&input.model, vec![efface::kernels::Accumulate::Square], &mut store);
    for samples in [tokens(&data.forget), data.retained(false)] {
        worst.note(plan(&pass.demand(&args.measure.units(&samples), Some(&sink)), &limits))?;
    }
    for samples in [tokens(&data.forget), data.retained(true)] {
        worst.note(plan(&losses(&pass, &samples), &beside))?;
    }
    let probes: Vec<Arc<Tokens>> =
        probing.samples().iter().map(|sample| Arc::new(Tokens::new(&sample.ids, &sample.labels, 0))).collect();
    worst.note(plan(&losses(&pass, &probes), &limits))?;
    let extents = probing.extents(input.model.config.context);
    worst.note(DecodePlan::new(&input.model, pass.elements(), &extents, &limits).map(drop))?;
    if edit > limits.device {
        worst.note(Err(Error::Budget { what: "device memory", given: limits.device, needed: edit }))?;
    }
    worst.verdict()
}

/// What measuring the losses of samples asks for.
fn losses(pass: &Pass, samples: &[Arc<Tokens>]) -> Demand {
    let units: Vec<Unit> =
        samples.iter().map(|tokens| vec![Weighted { tokens: tokens.clone(), weight: 1.0 }]).collect();
    pass.demand(&units, None)
}

/// The largest of the budgets that phases asked for.
#[derive(Default)]
struct Worst(Option<(&'static str, u64, u64)>);

impl Worst {
    fn note(&mut self, planned: Result<()>) -> Result<()> {
        let Err(Error::Budget { what, given, needed }) = planned else { return planned };
        // Device memory first: the plan asks for host memory only when that suffices.
        let larger = |(of, _, so_far): (&str, u64, u64)| (what, needed) > (of, so_far) && what == of || what < of;
        if self.0.is_none_or(larger) {
            self.0 = Some((what, given, needed));
        }
        Ok(())
    }

    fn verdict(self) -> Result<()> {
        self.0.map_or(Ok(()), |(what, given, needed)| Err(Error::Budget { what, given, needed }))
    }
}
