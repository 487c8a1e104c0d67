//! Facts held against each other: contradictions, and aliases that name another thing.

use std::collections::HashMap;
use std::sync::Arc;

use super::normal::normalised;
use super::templates::Templates;
use crate::data::records::shortened;
use crate::data::{Origin, Record, RecordKind};
use crate::{Error, Result};

/// What identifies a fact's place in the world: normalised subject, and the relation's own name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FactKey {
    /// The subject, normalised.
    pub subject: String,
    /// The relation, by the name that the templates give it.
    pub relation: String,
}

impl FactKey {
    /// The key of a record, if it is a fact.
    pub fn of(record: &Record, templates: &Templates) -> Option<Self> {
        match &record.kind {
            RecordKind::Fact { subject, relation, .. } => {
                let relation = templates.canonical(relation).to_string();
                Some(FactKey { subject: normalised(subject), relation })
            }
            _ => None,
        }
    }
}

/// The facts seen so far.
#[derive(Debug, Clone)]
pub struct Checked {
    templates: Arc<Templates>,
    /// By subject and relation the right names, normalised, of each fact.
    facts: HashMap<FactKey, Vec<(Vec<String>, Origin)>>,
    /// Every subject, normalised, where it first stands.
    subjects: HashMap<String, Origin>,
    /// Every alias, normalised, with the fact's subject and object, normalised, as they are written, and where.
    aliases: Vec<(String, [String; 2], Origin)>,
}

impl Checked {
    /// Nothing seen. `templates` say which relations have several objects.
    pub fn new(templates: Arc<Templates>) -> Self {
        Checked { templates, facts: HashMap::new(), subjects: HashMap::new(), aliases: Vec::new() }
    }

    /// Looks at a record.
    ///
    /// # Errors
    /// If it is a fact that gives a subject and relation another object than an earlier one, in a relation in which a
    /// subject has one object.
    pub fn see(&mut self, record: &Record) -> Result<()> {
        let RecordKind::Fact { object, aliases, subject_aliases, .. } = &record.kind else { return Ok(()) };
        let Some(key) = FactKey::of(record, &self.templates) else { return Ok(()) };
        let names: Vec<String> = std::iter::once(object).chain(aliases).map(|name| normalised(name)).collect();
        let own = [key.subject.clone(), names[0].clone()];
        self.add(key, names, &record.origin)?;
        let all = aliases.iter().chain(subject_aliases);
        self.aliases.extend(all.map(|alias| (alias.clone(), own.clone(), record.origin.clone())));
        Ok(())
    }

    /// Looks at all of them, once they have been seen.
    ///
    /// # Errors
    /// If an alias is the name of another subject.
    pub fn finish(&self) -> Result<()> {
        self.aliases_of_others().into_iter().next().map_or(Ok(()), Err)
    }

    /// An error for each alias that is the name of another subject.
    pub fn aliases_of_others(&self) -> Vec<Error> {
        let problem = |(alias, own, origin): &(String, [String; 2], Origin)| {
            let name = normalised(alias);
            let other = self.subjects.get(&name).filter(|_| !own.contains(&name))?;
            Some(origin.error(format!(
                "the alias `{}` is the subject of {} line {}: one name would stand for two things; take the alias out",
                shortened(alias),
                other.path.display(),
                other.line
            )))
        };
        self.aliases.iter().filter_map(problem).collect()
    }

    /// The first fact of `other` that is here too, with both places.
    pub fn shared<'c>(&'c self, other: &'c Checked) -> Option<(&'c Origin, &'c Origin)> {
        let mut shared: Vec<_> = other
            .facts
            .iter()
            .filter_map(|(key, theirs)| {
                let ours = self.facts.get(key)?;
                theirs.iter().find_map(|(names, origin)| {
                    let same = ours.iter().find(|(known, _)| known.iter().any(|name| names.contains(name)))?;
                    Some((&same.1, origin))
                })
            })
            .collect();
        shared.sort_by_key(|(_, origin)| (&origin.path, origin.line));
        shared.first().copied()
    }

    /// Adds the facts of another set.
    ///
    /// # Errors
    /// As [`see`](Self::see) and [`finish`](Self::finish), about the other set's lines.
    pub fn join(&mut self, other: &Checked) -> Result<()> {
        let mut facts: Vec<_> = other.facts.iter().collect();
        facts.sort_by_key(|(key, _)| *key);
        for (key, theirs) in facts {
            for (names, origin) in theirs {
                self.add(key.clone(), names.clone(), origin)?;
            }
        }
        self.aliases.extend(other.aliases.iter().cloned());
        self.finish()
    }

    /// Adds a fact: `names` are the object's, normalised.
    fn add(&mut self, key: FactKey, names: Vec<String>, origin: &Origin) -> Result<()> {
        let facts = self.facts.entry(key.clone()).or_default();
        let other = facts.iter().find(|(known, _)| !known.iter().any(|name| names.contains(name)));
        if let (Some((known, first)), false) = (other, self.templates.several(&key.relation)) {
            return Err(origin.error(format!(
                "contradicts {} line {}: the `{}` of `{}` is `{}` here and `{}` there; correct one, name one in the other's \
                 `aliases`, or give the relation `\"several\": true` in a file of templates",
                first.path.display(),
                first.line,
                shortened(&key.relation),
                shortened(&key.subject),
                shortened(&names[0]),
                shortened(&known[0]),
            )));
        }
        facts.push((names, origin.clone()));
        self.subjects.entry(key.subject).or_insert_with(|| origin.clone());
        Ok(())
    }
}
