//! Gold answers against wrong ones: multiple choice, TOFU's truth ratio, model utility and forget quality.

use std::collections::BTreeMap;

use efface::device::Device;
use efface::eval::FormResult;
use efface::eval::choices::{Weighed, weigh};
use efface::eval::tofu::{self, SetFigures};
use efface::report::eval::{ChoiceResult, ForgetQuality};
use efface::report::forget::Role;
use efface::stats::wilson;
use efface::stream::{Labels, Pass};
use efface::{Error, Result};

use super::super::input::Input;
use super::super::progress::Progress;
use super::against::Sets;

/// What weighing answers comes to.
#[derive(Debug, Default)]
pub struct Choices {
    /// For each file and form.
    pub results: Vec<ChoiceResult>,
    /// TOFU's model utility.
    pub utility: Option<f64>,
    /// TOFU's forget quality.
    pub quality: Option<ForgetQuality>,
}

/// Weighs the answers of all probes; nothing unless asked for.
///
/// # Errors
/// When the reference is another kind of model, an answer does not fit, or the work failed.
pub fn choices(
    args: &super::Args,
    input: &Input,
    device: &Device,
    pass: &Pass,
    sets: &Sets,
    results: &[Vec<FormResult>],
) -> Result<Choices> {
    if !args.choices && args.reference.is_none() {
        return Ok(Choices::default());
    }
    let mut choices = Choices::default();
    let (mut kept, mut ratios) = (Vec::new(), Vec::new());
    for ((role, set), results) in sets.iter().zip(results) {
        let progress = Progress::new(&args.common, "weighing answers");
        let weighed = weigh(pass, &set.probes, &|done, total| progress.tick(done, total))?;
        drop(progress);
        choices.results.extend(by_form(results, &weighed));
        if role == Role::Forget {
            ratios.extend(weighed.iter().map(Weighed::truth_ratio));
        } else {
            kept.extend(figures(results, &weighed));
        }
    }
    choices.utility = tofu::model_utility(&kept);
    if let Some(path) = &args.reference {
        let reference = Input::open(path)?;
        if reference.model.config.vocabulary != input.model.config.vocabulary {
            return Err(Error::file(path, "", "this is another kind of model: its vocabulary differs"));
        }
        let pass = reference.pass(device, &args.common, None, Labels::Data)?;
        let progress = Progress::new(&args.common, "weighing the reference's answers");
        let mut theirs = Vec::new();
        for (_, set) in sets.iter().filter(|(role, _)| *role == Role::Forget) {
            let weighed = weigh(&pass, &set.probes, &|done, total| progress.tick(done, total))?;
            theirs.extend(weighed.iter().map(Weighed::truth_ratio));
        }
        let missing = || {
            Error::argument(
                "--reference needs --probes-forget with wrong answers (`alternatives` or `perturbed_answer`)",
            )
        };
        let test = tofu::forget_quality(&ratios, &theirs).ok_or_else(missing)?;
        let probes = ratios.len() as u64;
        choices.quality = Some(ForgetQuality { statistic: test.statistic, p_value: test.p_value, probes });
    }
    Ok(choices)
}

/// The weighed answers of each result.
fn of_results<'w>(results: &'w [FormResult], weighed: &'w [Weighed]) -> Vec<(&'w FormResult, Vec<&'w Weighed>)> {
    let by_probe: BTreeMap<usize, &Weighed> = weighed.iter().map(|weighed| (weighed.probe, weighed)).collect();
    let of = |result: &'w FormResult| {
        let found: Vec<_> =
            result.outcomes.iter().filter_map(|outcome| by_probe.get(&outcome.probe).copied()).collect();
        (result, found)
    };
    results.iter().map(of).filter(|(_, found)| !found.is_empty()).collect()
}

fn mean(values: impl Iterator<Item = f64>, count: usize) -> f64 {
    values.sum::<f64>() / count as f64
}

fn truth(weighed: &[&Weighed]) -> f64 {
    mean(weighed.iter().map(|weighed| tofu::truth_share(weighed.truth_ratio())), weighed.len())
}

fn by_form(results: &[FormResult], weighed: &[Weighed]) -> Vec<ChoiceResult> {
    let one = |(result, weighed): (&FormResult, Vec<&Weighed>)| {
        let right = weighed.iter().filter(|weighed| weighed.is_right()).count() as u64;
        let probes = weighed.len() as u64;
        ChoiceResult {
            file: result.file.clone(),
            form: result.form.clone(),
            probes,
            accuracy: right as f64 / probes as f64,
            interval: wilson(right, probes),
            truth: truth(&weighed),
            option_probability: mean(weighed.iter().map(|weighed| weighed.option_probability()), weighed.len()),
        }
    };
    of_results(results, weighed).into_iter().map(one).collect()
}

/// Each file and form as model utility takes it: one with paraphrases by its probability, one without by that among the options. One that was not asked
/// to answer has no ROUGE-L and does not enter.
fn figures(results: &[FormResult], weighed: &[Weighed]) -> Vec<SetFigures> {
    let one = |(result, weighed): (&FormResult, Vec<&Weighed>)| {
        let reworded = weighed.iter().any(|weighed| weighed.reworded.is_some());
        let among = || mean(weighed.iter().map(|weighed| weighed.option_probability()), weighed.len());
        let probability = if reworded { result.probability() } else { among() };
        Some(SetFigures { probability, rouge_l: result.rouge_l()?, truth: truth(&weighed) })
    };
    of_results(results, weighed).into_iter().filter_map(one).collect()
}
