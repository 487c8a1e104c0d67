//! Measuring, choosing and changing in one visit of each stage, where everything else is known beforehand.

use std::sync::Arc;

use efface::Result;
use efface::model::weights::WeightSource;
use efface::stream::{CheckpointWeights, Labels, PassOptions};
use efface::unlearn::edit::Dampening;
use efface::unlearn::forget::{Judges, Method, choose_by};
use efface::unlearn::fused::{Known, SparseWeights, dampen, obstacle};
use efface::unlearn::importance::Kind;
use efface::unlearn::measured::Measured;
use efface::unlearn::selection::{Granularity, Rule};

use super::super::input::tokens;
use super::{Decided, Phases, Run};

/// Whether it was done so.
pub enum Fusing {
    /// It was.
    Done(Box<Decided>),
    /// It must be done step by step, with the retain importance if there is one.
    Impossible(Option<Measured>),
}

/// Does it if the method's threshold is known, the retain importance comes from a file, and the forget set goes through the
/// model in one group.
///
/// # Errors
/// When the work fails.
pub fn decide(run: &Run<'_>, method: Method, cached: Option<Measured>, phases: &mut Phases) -> Result<Fusing> {
    let Run { args, input, device, measuring, data, allowed } = *run;
    let repairs = args.choosing.training.repair()?.is_some();
    let element = args.choosing.granularity() == Granularity::Element
        && args.choosing.combine.is_none()
        && args.choosing.kind() == Kind::Fisher;
    let (Method::Fixed(Rule::Ssd { alpha, lambda }), Some(retain), true, false) = (method, &cached, element, repairs)
    else {
        return Ok(Fusing::Impossible(cached));
    };
    let samples = data.forgotten(false);
    let against = args.choosing.against(samples.len(), retain.samples());
    let units = args.measure.units(&samples);
    let pass = input.measuring(measuring, &args.common, None, &args.measure)?;
    if let Some(obstacle) = obstacle(&pass, &units)? {
        args.common.detail(&format!("not measured and dampened in one visit: {obstacle}"));
        return Ok(Fusing::Impossible(cached));
    }
    let Some(retain) = cached else { return Ok(Fusing::Impossible(None)) };
    let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(input.checkpoint.clone()));
    let known = Known { retain, against, dampening: Dampening { threshold: alpha, lambda } };
    let fused = phases
        .run(&args.common, "measuring and dampening", |tick| dampen(&pass, &base, &units, allowed, &known, tick))?;
    drop(pass);
    let outcome = phases.run(&args.common, "judging", |tick| {
        let edited = |_| -> Arc<dyn WeightSource> { Arc::new(SparseWeights::new(base.clone(), fused.edit.clone())) };
        let judges = Judges { forget: tokens(&data.forget), forms: Vec::new(), held_out: data.retained(true) };
        let host_memory = args.common.host_memory;
        let options = PassOptions { host_memory, labels: Labels::Data, ..PassOptions::default() };
        let ratios = (fused.histogram.clone(), against);
        let method = (method, args.choosing.limit());
        choose_by(device, &input.model, (&base, &edited), ratios, &judges, method, options, tick)
    })?;
    let edit = outcome.choice.is_some().then(|| Box::new(fused.edit) as Box<dyn efface::unlearn::edit::Edit>);
    Ok(Fusing::Done(Box::new(Decided { outcome, edit })))
}
