//! What became of the facts that are closest to those to be forgotten: of the same relation, or of the same subject.

use std::collections::{BTreeMap, BTreeSet};

use super::{FormResult, ProbeOutcome};
use crate::data::forms::FactKey;
use crate::data::{Probe, ProbeKind};
use crate::report::neighbours::{Kinship, Neighbours};
use crate::stats::wilson;

/// Probes of facts to be kept, with what the old and the new model say to them.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// All that were evaluated.
    pub probes: &'a [Probe],
    /// Of the old model.
    pub before: &'a [FormResult],
    /// Of the new one, in the same order.
    pub after: &'a [FormResult],
}

impl<'a> Asked<'a> {
    /// The probes that can be answered, each with both outcomes.
    fn pairs(self) -> impl Iterator<Item = (&'a Probe, &'a ProbeOutcome, &'a ProbeOutcome)> {
        let answers = self.before.iter().zip(self.after).filter(|(before, _)| before.kind == ProbeKind::Answer);
        let outcomes = answers.flat_map(|(before, after)| before.outcomes.iter().zip(&after.outcomes));
        outcomes.map(move |(before, after)| (&self.probes[before.probe], before, after))
    }
}

/// What is to be forgotten, by what others can share with it.
struct Forgotten<'a> {
    facts: BTreeSet<&'a FactKey>,
    subjects: BTreeSet<&'a str>,
    relations: BTreeSet<&'a str>,
}

impl<'a> Forgotten<'a> {
    fn of(facts: impl Iterator<Item = &'a FactKey>) -> Self {
        let mut all = Forgotten { facts: BTreeSet::new(), subjects: BTreeSet::new(), relations: BTreeSet::new() };
        for fact in facts {
            all.facts.insert(fact);
            all.subjects.insert(&fact.subject);
            all.relations.insert(&fact.relation);
        }
        all
    }

    /// What a fact shares with one to be forgotten; of both kinds where it shares its relation with one and its subject with
    /// another.
    fn kinships(&self, fact: &FactKey) -> Vec<Kinship> {
        if self.facts.contains(fact) {
            return vec![Kinship::OtherObject];
        }
        let shared = [
            (self.relations.contains(&*fact.relation), Kinship::OtherSubject),
            (self.subjects.contains(&*fact.subject), Kinship::OtherRelation),
        ];
        let kinships: Vec<Kinship> = shared.into_iter().filter(|(shares, _)| *shares).map(|(_, kind)| kind).collect();
        if kinships.is_empty() { vec![Kinship::None] } else { kinships }
    }
}

/// Groups the probes `kept` by what their facts share with those of the probes `forgotten`, a line for each kinship that
/// occurs. Probes whose record is no fact have no subject and no relation, and stay out. Empty unless something is to be
/// forgotten that has them.
pub fn neighbours<'a>(
    forgotten: impl IntoIterator<Item = &'a Probe>,
    kept: impl IntoIterator<Item = Asked<'a>>,
) -> Vec<Neighbours> {
    let forgotten = Forgotten::of(forgotten.into_iter().filter_map(|probe| probe.fact.as_ref()));
    if forgotten.facts.is_empty() {
        return Vec::new();
    }
    let mut groups: BTreeMap<Kinship, (Neighbours, BTreeSet<&FactKey>)> = BTreeMap::new();
    for (probe, before, after) in kept.into_iter().flat_map(Asked::pairs) {
        let Some(fact) = &probe.fact else { continue };
        for kinship in forgotten.kinships(fact) {
            let (group, facts) = groups.entry(kinship).or_insert_with(|| (Neighbours::new(kinship), BTreeSet::new()));
            group.probes += 1;
            if before.known() {
                group.known_probes += 1;
                group.still += u64::from(after.known());
                facts.insert(fact);
            }
        }
    }
    let finished = |(mut group, facts): (Neighbours, BTreeSet<&FactKey>)| {
        group.known_facts = facts.len() as u64;
        group.kept = (group.known_probes > 0).then(|| group.still as f64 / group.known_probes as f64);
        group.interval = wilson(group.still, group.known_probes);
        group
    };
    groups.into_values().map(finished).collect()
}
