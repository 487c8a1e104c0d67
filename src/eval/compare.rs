//! Two evaluations of the same probes, before and after an edit, as the report takes them.

use super::{FormResult, ProbeOutcome, result_of};
use crate::data::{Probe, ProbeKind};
use crate::report::forget::{Change, Example, ProbeResult, Role};

/// How much of what a model knew an edited one still knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Probes that were known before: [`ProbeOutcome::known`](super::ProbeOutcome::known).
    pub known: u64,
    /// Those of them that still are.
    pub still: u64,
}

impl Kept {
    /// Counts the probes of one form. `before` and `after` are results of the same probes.
    pub fn of(before: &FormResult, after: &FormResult) -> Self {
        let pairs = before.outcomes.iter().zip(&after.outcomes).filter(|(before, _)| before.known());
        pairs.fold(Kept::default(), |kept, (_, after)| Kept {
            known: kept.known + 1,
            still: kept.still + u64::from(after.known()),
        })
    }

    /// The share that is kept; none where nothing was known.
    pub fn share(self) -> Option<f64> {
        (self.known > 0).then(|| self.still as f64 / self.known as f64)
    }
}

/// What `results` say about some of the `probes` that were evaluated: those that are `kept`, numbered anew, as if nothing else
/// had been asked.
pub fn subset(results: &[FormResult], probes: &[Probe], kept: &[bool]) -> Vec<FormResult> {
    let outcomes = results.iter().flat_map(|result| &result.outcomes);
    let mut outcomes: Vec<_> = outcomes.filter(|outcome| kept[outcome.probe]).collect();
    outcomes.sort_by_key(|outcome| outcome.probe);
    let mut found = Vec::new();
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let renumbered = ProbeOutcome { probe: number, ..outcome.clone() };
        result_of(&mut found, &probes[outcome.probe]).outcomes.push(renumbered);
    }
    found
}

/// A form's figures before and after. `held_out`: neither the form nor its wordings occur in the forget set.
pub fn compare(before: &FormResult, after: &FormResult, role: Role, held_out: bool) -> ProbeResult {
    let change = |figure: fn(&FormResult) -> Option<f64>| Some(Change::new(figure(before)?, figure(after)?));
    ProbeResult {
        file: before.file.clone(),
        form: before.form.clone(),
        role,
        held_out,
        probes: before.outcomes.len() as u64,
        probability: Change::new(before.probability(), after.probability()),
        exact_match: change(FormResult::exact_match),
        rouge_l: change(FormResult::rouge_l),
    }
}

/// At most `count` questions of a form with the answers before and after, spread evenly over those that the old model
/// knew, or over all where it knew none, from the one with the number `first` on. Probes without texts give none. `probes` are
/// all that were evaluated.
pub fn examples(
    probes: &[Probe],
    before: &FormResult,
    after: &FormResult,
    role: Role,
    (first, count): (usize, usize),
) -> Vec<Example> {
    if before.kind == ProbeKind::Text {
        return Vec::new();
    }
    let example = |(before, after): (&ProbeOutcome, &ProbeOutcome)| {
        let probe = &probes[before.probe];
        let text = |outcome: &ProbeOutcome| outcome.answer.as_ref()?.text.clone();
        Some((before.known(), probe.question.clone()?, probe.gold_text.clone()?, text(before)?, text(after)?))
    };
    let mut shown: Vec<_> = before.outcomes.iter().zip(&after.outcomes).filter_map(example).collect();
    if shown.iter().any(|(known, ..)| *known) {
        shown.retain(|(known, ..)| *known);
    }
    let count = count.min(shown.len());
    let spread = (0..count).map(|i| shown[(first + i * shown.len() / count) % shown.len()].clone());
    let form = &before.form;
    spread
        .map(|(_, question, gold, before, after)| Example { form: form.clone(), role, question, gold, before, after })
        .collect()
}
