//! Which facts each form can still recover: two evaluations to [`FormScore`]s, from which [`Scores`](crate::report::scores::Scores)
//! makes the headline.

use std::collections::BTreeMap;
use std::path::Path;

use super::{FormResult, ProbeOutcome};
use crate::data::{Probe, ProbeKind};
use crate::report::forget::Role;
use crate::report::scores::FormScore;
use crate::stats::wilson;

/// What the old and the new model say to a probe.
type Pair<'r> = (&'r ProbeOutcome, &'r ProbeOutcome);

/// Compares two evaluations of the same probes, form by form (whatever the files), in the order in which forms first come. `probes` are all that
/// were evaluated; a probe's record is its fact: a fact counts as known if the old model answers one of its probes in the form, and
/// as still known if the new model answers one of those. Texts have no answers and give no score.
pub fn form_scores(
    probes: &[Probe],
    before: &[FormResult],
    after: &[FormResult],
    role: Role,
    held_out: &dyn Fn(&FormResult) -> bool,
) -> Vec<FormScore> {
    let mut forms: Vec<(&str, bool, Vec<Pair<'_>>)> = Vec::new();
    for (before, after) in before.iter().zip(after).filter(|(before, _)| before.kind == ProbeKind::Answer) {
        let pairs = before.outcomes.iter().zip(&after.outcomes);
        let out = held_out(before);
        match forms.iter_mut().find(|(form, held_out, _)| *form == before.form && *held_out == out) {
            Some((_, _, all)) => all.extend(pairs),
            None => forms.push((&before.form, out, pairs.collect())),
        }
    }
    forms.into_iter().map(|(form, held_out, pairs)| score(probes, form, &pairs, role, held_out)).collect()
}

fn score(probes: &[Probe], form: &str, pairs: &[Pair<'_>], role: Role, held_out: bool) -> FormScore {
    // By fact, of those that were known: whether one of the known probes is still answered.
    let mut facts: BTreeMap<(&Path, usize), bool> = BTreeMap::new();
    for (before, after) in pairs.iter().filter(|(before, _)| before.known()) {
        let origin = &probes[before.probe].origin;
        *facts.entry((&origin.path, origin.line)).or_default() |= after.known();
    }
    let known_probes = pairs.iter().filter(|(before, _)| before.known()).count() as u64;
    let (known, still) = (facts.len() as u64, facts.values().filter(|still| **still).count() as u64);
    let right = if role == Role::Forget { known - still } else { still };
    FormScore {
        form: form.to_string(),
        role,
        held_out,
        probes: pairs.len() as u64,
        known_probes,
        known,
        still,
        right: (known > 0).then(|| right as f64 / known as f64),
        interval: wilson(right, known),
    }
}
