//! Whether every phase of the run fits the memory budgets, found out before the first.

use std::sync::Arc;

use efface::kernels::Accumulate;
use efface::model::batch::Tokens;
use efface::stream::{Budgets, DecodePlan, Demand, Labels, Limits, Pass, Plan, Unit, Weighted};
use efface::unlearn::edit::Comparison;
use efface::unlearn::importance::ImportanceSink;
use efface::unlearn::methods::{RetainLoss, Score, largest_units};
use efface::unlearn::redirect::covariance::smallest_device_bytes;
use efface::unlearn::store::MemoryStore;
use efface::{Error, Result};

use super::super::input::tokens;
use super::Run;
use super::probe::Probing;
use super::recipe::{MaskBy, Recipe};
use super::redirect;
use super::settings::Task;

/// Plans all phases.
///
/// # Errors
/// [`Error::Budget`] with the smallest budget that does for all of them.
pub fn check(run: &Run<'_>, task: &Task, redirected: Option<&redirect::Plan>, probing: &Probing) -> Result<()> {
    let Run { args, input, device, data, allowed, .. } = *run;
    let pass = input.pass(device, &args.common, None, Labels::Data)?;
    let edit = match task {
        Task::Redirect | Task::Heads(_) => 0,
        _ => Comparison::device_bytes(&input.model, allowed, device),
    };
    let limits = pass.limits();
    let beside = Limits { reserved: limits.reserved + edit, ..limits };
    let plan = |demand: &Demand, limits: &Limits| Plan::new(&input.model, pass.elements(), demand, limits);
    let mut budgets = Budgets::default();

    let mut store = MemoryStore::new(&input.model);
    // WAGLE's score takes the sums of gradients as well as of their squares.
    let sums = match task {
        Task::Train(Recipe { mask: MaskBy::Score(Score::Wagle { .. }), .. }) => {
            vec![Accumulate::Sum, Accumulate::Square]
        }
        _ => vec![Accumulate::Square],
    };
    let sink = ImportanceSink::new(&input.model, sums, &mut store);
    if let Some(redirected) = redirected {
        let beside = smallest_device_bytes(redirected.sites[0].inputs);
        budgets.note(pass.observation_plan(&redirected.text, beside))?;
        budgets.note(pass.observation_plan(&redirect::samples(run, redirected)?, 0))?;
    }
    if let Task::Heads(recipe) = task {
        let samples = [tokens(&data.forget), data.retained(false)].concat();
        budgets.note(pass.observation_plan(&samples, recipe.device_bytes(run)))?;
    }
    let measured = if redirected.is_some() { Vec::new() } else { vec![tokens(&data.forget), data.retained(false)] };
    for samples in measured {
        budgets.note(plan(&pass.demand(&args.measure.units(&samples), Some(&sink)), &limits))?;
    }
    for samples in [tokens(&data.forget), data.retained(true)] {
        budgets.note(plan(&losses(&pass, &samples), &beside))?;
    }
    let repairs = args.choosing.training.repair()?.is_some();
    if repairs || matches!(task, Task::Train(_)) {
        // The forget set's samples may have other answers, which are as long as these or a few tokens longer.
        let units = largest_units([&tokens(&data.forget), &data.retained(false)]);
        let old = matches!(task, Task::Train(Recipe { retain_loss: RetainLoss::Divergence, .. }));
        let demand = Demand { old, ..pass.demand(&units, Some(&sink)) };
        budgets.note(plan(&demand, if repairs { &beside } else { &limits }))?;
    }
    let probes: Vec<Arc<Tokens>> =
        probing.samples().iter().map(|sample| Arc::new(Tokens::new(&sample.ids, &sample.labels, 0))).collect();
    budgets.note(plan(&losses(&pass, &probes), &limits))?;
    let extents = probing.extents(input.model.config.context);
    budgets.note(DecodePlan::new(&input.model, pass.elements(), &extents, &limits))?;
    if edit > limits.device {
        budgets.note::<()>(Err(Error::Budget { what: "device memory", given: limits.device, needed: edit }))?;
    }
    budgets.verdict()
}

/// What measuring the losses of samples asks for.
fn losses(pass: &Pass, samples: &[Arc<Tokens>]) -> Demand {
    let units: Vec<Unit> =
        samples.iter().map(|tokens| vec![Weighted { tokens: tokens.clone(), weight: 1.0 }]).collect();
    pass.demand(&units, None)
}
