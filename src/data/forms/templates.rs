//! Wordings of relations and templates of forms: the built-in ones, those of files, and those of ParaRel tables.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::parse;
use super::slot::{Escape, Piece, Slot, WordingKind, slots};
use super::split::{Side, sides};
use crate::data::Relations;
use crate::{Error, Result};

/// The templates that come with efface.
const BUILTIN: &str = include_str!("builtin.json");

/// A phrasing of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wording {
    /// As it stands in the file.
    pub(super) text: Arc<str>,
    pub(super) pieces: Vec<Piece>,
    /// The side that the file gives it.
    pub(super) split: Option<Side>,
}

/// What is known about a relation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Relation {
    /// `The NOUN of the subject is the object`.
    pub(super) noun: Option<String>,
    /// Whether a subject may have several objects.
    pub(super) several: bool,
    pub(super) wordings: BTreeMap<WordingKind, Vec<Wording>>,
}

/// A frame that a form puts around a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// As it stands in the file.
    pub(super) text: Arc<str>,
    pub(super) body: TemplateBody,
    /// The list that it takes a wording from.
    pub(super) wording: Option<WordingKind>,
    /// Which records it is for.
    pub(super) audience: Audience,
    /// The side that the file gives it.
    pub(super) split: Option<Side>,
}

/// What a template makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TemplateBody {
    /// A text with a target.
    Text(Vec<Piece>),
    /// A question and its answer, which the chat template writes where there is one.
    Chat(Vec<Piece>, Vec<Piece>),
}

/// The records that a template can be filled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Audience {
    /// Facts only.
    Fact,
    /// Facts, and questions with answers.
    FactOrQuestion,
    /// Questions with answers only.
    Question,
    /// Texts.
    Text,
}

impl Template {
    /// The pieces of all parts.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Piece> {
        let (one, other): (&[Piece], &[Piece]) = match &self.body {
            TemplateBody::Text(pieces) => (pieces, &[]),
            TemplateBody::Chat(user, assistant) => (user, assistant),
        };
        one.iter().chain(other)
    }
}

impl Audience {
    /// The audience of a template with these slots.
    ///
    /// # Errors
    /// If no record could fill all of them.
    pub(super) fn of(pieces: &[Piece]) -> std::result::Result<Self, String> {
        use Slot::*;
        let kinds: Vec<_> = slots(pieces)
            .map(|slot| match slot {
                Text | TextStart | TextEnd => (Audience::Text, slot),
                OwnQuestion => (Audience::Question, slot),
                Question | Object | Options | List | Letter | Alternative | Spelled | ObjectAlias | Initial
                | Length => (Audience::FactOrQuestion, slot),
                _ => (Audience::Fact, slot),
            })
            .collect();
        let narrow = kinds.iter().find(|(kind, _)| *kind != Audience::FactOrQuestion);
        let Some(&(audience, slot)) = narrow else { return Ok(Audience::FactOrQuestion) };
        let fits =
            |kind: Audience| kind == audience || (kind == Audience::FactOrQuestion && audience != Audience::Text);
        match kinds.iter().find(|(kind, _)| !fits(*kind)) {
            None => Ok(audience),
            Some((_, other)) => Err(format!("no record has both {{{}}} and {{{}}}", slot.name(), other.name())),
        }
    }

    /// Templates of one form and one group share a split.
    fn group(self) -> &'static str {
        match self {
            Audience::Fact | Audience::FactOrQuestion => "facts",
            Audience::Question => "questions",
            Audience::Text => "texts",
        }
    }
}

/// A form: the templates that make it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) templates: Vec<Template>,
    pub(super) escape: Vec<Escape>,
}

impl Form {
    /// The side of each template; none where it is alone in its group and takes a wording, which then decides.
    pub(super) fn sides(&self, name: &str, share: f64, seed: u64) -> Vec<Option<Side>> {
        let mut all = vec![None; self.templates.len()];
        for group in ["facts", "questions", "texts"] {
            let members: Vec<usize> = (0..all.len()).filter(|i| self.templates[*i].audience.group() == group).collect();
            if let [only] = members[..]
                && self.templates[only].wording.is_some()
                && self.templates[only].split.is_none()
            {
                continue;
            }
            let fixed: Vec<_> = members.iter().map(|i| self.templates[*i].split).collect();
            let drawn = sides(&fixed, share, seed, &format!("templates of {name} for {group}"));
            members.into_iter().zip(drawn).for_each(|(i, side)| all[i] = Some(side));
        }
        all
    }
}

/// Wordings per relation and templates per form.
#[derive(Debug, Clone, Default)]
pub struct Templates {
    pub(super) relations: BTreeMap<String, Relation>,
    /// Every name and id of a relation, simplified, with the name in `relations`.
    pub(super) names: HashMap<String, String>,
    /// In the order in which files name them.
    pub(super) forms: Vec<(String, Form)>,
    /// The files that were read, for a hash.
    pub(super) sources: Vec<String>,
}

impl Templates {
    /// The templates that come with efface: 18 forms, and the relations of ParaRel and some more.
    pub fn builtin() -> Arc<Self> {
        static TEMPLATES: OnceLock<Arc<Templates>> = OnceLock::new();
        let read = || {
            let mut templates = Templates::default();
            // The file is a part of the program; a test reads it.
            if let Err(error) = parse::add(&mut templates, Path::new("builtin.json"), BUILTIN) {
                debug_assert!(false, "{error}");
            }
            Arc::new(templates)
        };
        TEMPLATES.get_or_init(read).clone()
    }

    /// Adds a file of templates (`docs/forms.md` describes it). Lists add to those of the same name, unless `"replace": true`.
    ///
    /// # Errors
    /// Names the file, the place in it and what is wrong: not JSON, an unknown key or slot, a form without templates, a
    /// template without a slot or without a target.
    pub fn read(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| Error::reading(path, error))?;
        let text = String::from_utf8(bytes).map_err(|_| Error::file(path, "", "the file is not UTF-8 text"))?;
        parse::add(self, path, text.trim_start_matches('\u{feff}'))
    }

    /// Takes the phrasings of `relations` in place of the relations' own statements; those in which the object comes first
    /// ask for the subject.
    pub fn use_phrasings(&mut self, relations: &Relations) {
        for (name, phrasings) in relations.iter() {
            let entry = self.relation_mut(name);
            for kind in [WordingKind::Phrases, WordingKind::ReversedPhrases] {
                entry.wordings.remove(&kind);
            }
            for text in phrasings {
                let reversed = text.find("[Y]") < text.find("[X]");
                let kind = if reversed { WordingKind::ReversedPhrases } else { WordingKind::Phrases };
                entry.wordings.entry(kind).or_default().push(pattern(text));
            }
            self.sources.push(format!("{name}: {phrasings:?}"));
        }
    }

    /// A relation by its name or one of its ids, whatever the case and whatever joins its words.
    pub(super) fn relation(&self, name: &str) -> Option<&Relation> {
        self.relations.get(self.names.get(&simple(name))?)
    }

    /// The relation of this name, made if there is none.
    pub(super) fn relation_mut(&mut self, name: &str) -> &mut Relation {
        let name = self.names.entry(simple(name)).or_insert_with(|| name.to_string()).clone();
        self.relations.entry(name).or_default()
    }

    /// The name that a relation goes by: of two ids of one relation the same.
    pub fn canonical<'a>(&'a self, name: &'a str) -> &'a str {
        self.names.get(&simple(name)).map_or(name, String::as_str)
    }

    /// Whether a subject may have several objects in this relation.
    pub fn several(&self, relation: &str) -> bool {
        self.relation(relation).is_some_and(|relation| relation.several)
    }

    /// The names of all forms.
    pub fn form_names(&self) -> impl Iterator<Item = &str> {
        self.forms.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn form(&self, name: &str) -> Option<&Form> {
        self.forms.iter().find(|(known, _)| known == name).map(|(_, form)| form)
    }

    pub(super) fn describe(&self) -> Value {
        json!(self.sources)
    }
}

/// A name without case and without what joins its words.
pub(super) fn simple(name: &str) -> String {
    let word = |c: char| if c == '_' || c == '-' { ' ' } else { c };
    let name: String = name.chars().map(word).flat_map(char::to_lowercase).collect();
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A phrasing with `[X]` and `[Y]` as a wording. What looks like a slot in it is text.
fn pattern(text: &str) -> Wording {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = ["[X]", "[Y]"].into_iter().filter_map(|mark| rest.find(mark)).min() {
        if at > 0 {
            pieces.push(Piece::Text(rest[..at].to_string()));
        }
        pieces.push(Piece::Slot(if rest[at..].starts_with("[X]") { Slot::Subject } else { Slot::Object }));
        rest = &rest[at + 3..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_string()));
    }
    Wording { text: text.into(), pieces, split: None }
}
