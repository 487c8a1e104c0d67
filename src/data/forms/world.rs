//! What the records of a set say about each other: wrong answers of the same kind, other subjects of the same object, and
//! facts that follow on from a fact's object.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::normal::normalised;
use super::templates::Templates;
use crate::data::{Record, RecordKind};
use crate::random::Random;

/// Wrong options beside the right one.
const WRONG: usize = 3;

/// A relation and an object or a subject, as they are compared.
type Pair = (String, String);

/// What is known from a set of records.
#[derive(Debug, Default)]
pub(super) struct World {
    /// By relation (none: of questions) the objects, normalised, with their first spelling.
    objects: BTreeMap<Option<String>, BTreeMap<String, String>>,
    /// By relation and subject what is right.
    right: HashMap<Pair, BTreeSet<String>>,
    /// By relation and object the subjects.
    subjects: HashMap<Pair, BTreeSet<String>>,
    /// By subject the relation and object of its facts, in order.
    facts: HashMap<String, Vec<(String, String)>>,
}

impl World {
    /// What `records` say.
    pub(super) fn of(records: &[Record], templates: &Templates) -> Self {
        let mut world = World::default();
        for record in records {
            match &record.kind {
                RecordKind::Fact { subject, relation, object, aliases, .. } => {
                    let relation = templates.canonical(relation).to_string();
                    let (subject, object_key) = (normalised(subject), normalised(object));
                    world.object(Some(relation.clone()), object);
                    let right = world.right.entry((relation.clone(), subject.clone())).or_default();
                    right.extend(std::iter::once(object).chain(aliases).map(|name| normalised(name)));
                    world.subjects.entry((relation.clone(), object_key)).or_default().insert(subject.clone());
                    let facts = world.facts.entry(subject).or_default();
                    if !facts.iter().any(|(known, said)| *known == relation && said == object) {
                        facts.push((relation, object.clone()));
                    }
                }
                RecordKind::Question { answer, .. } => world.object(None, answer),
                _ => {}
            }
        }
        world
    }

    fn object(&mut self, relation: Option<String>, object: &str) {
        let objects = self.objects.entry(relation).or_default();
        objects.entry(normalised(object)).or_insert_with(|| object.trim().to_string());
    }

    /// How many subjects have this object.
    pub(super) fn subjects(&self, relation: &str, object: &str) -> usize {
        self.subjects.get(&(relation.to_string(), normalised(object))).map_or(0, BTreeSet::len)
    }

    /// The facts about what `object` names.
    pub(super) fn about(&self, object: &str) -> &[(String, String)] {
        self.facts.get(&normalised(object)).map_or(&[], Vec::as_slice)
    }

    /// Whether these answers are right for a subject.
    fn is_right(&self, relation: &str, subject: &str, answer: &str) -> bool {
        let right = self.right.get(&(relation.to_string(), normalised(subject)));
        right.is_some_and(|right| right.contains(answer))
    }

    /// Up to three wrong answers, drawn by `random`: of those `given`, or else of the other objects of the relation (of a
    /// question: of the other answers).
    pub(super) fn wrong(
        &self,
        about: Option<(&str, &str)>,
        right: &[&str],
        given: &[String],
        random: &mut Random,
    ) -> Vec<String> {
        let right: Vec<String> = right.iter().map(|text| normalised(text)).collect();
        let is_right = |key: &String| {
            right.contains(key) || about.is_some_and(|(relation, subject)| self.is_right(relation, subject, key))
        };
        let mut pool: BTreeMap<String, String> =
            given.iter().map(|text| (normalised(text), text.trim().to_string())).collect();
        pool.retain(|key, _| !is_right(key));
        let mut drawn: Vec<String> = pool.values().cloned().collect();
        random.shuffle(&mut drawn);
        if drawn.len() < WRONG {
            let others = self.objects.get(&about.map(|(relation, _)| relation.to_string()));
            let others = others.into_iter().flatten().filter(|(key, _)| !is_right(key) && !pool.contains_key(*key));
            let mut others: Vec<String> = others.map(|(_, text)| text.clone()).collect();
            random.shuffle(&mut others);
            drawn.extend(others);
        }
        drawn.truncate(WRONG);
        drawn
    }
}
