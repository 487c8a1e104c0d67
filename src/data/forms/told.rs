//! A record as templates see it: which of them it hears, what their slots hold, and the expression that comes of it.

use std::cell::OnceCell;
use std::sync::Arc;

use super::Forms;
use super::expression::{Body, Expression};
use super::normal::normalised;
use super::relation::{RelationSides, derived_noun};
use super::slot::{Escape, Piece, Slot, WordingKind, fill, with_wording};
use super::split::Side;
use super::templates::{Audience, Template, TemplateBody, Wording};
use super::world::World;
use crate::data::phrase::Phrase;
use crate::data::{Record, RecordKind};
use crate::random::Random;

/// An expression with what it is compared and drawn by.
pub(super) struct Made {
    pub(super) expression: Expression,
    pub(super) key: String,
    pub(super) draw: u64,
}

impl Made {
    pub(super) fn side(&self) -> Side {
        self.expression.side
    }
}

/// A record with what templates ask it for.
pub(super) struct Told<'r> {
    pub(super) record: &'r Record,
    forms: &'r Forms,
    world: &'r World,
    content: Content<'r>,
    relation: Option<RelationSides<'r>>,
}

/// What a record says.
enum Content<'r> {
    Fact {
        subject: &'r str,
        /// As the record names it.
        named: &'r str,
        /// As the templates name it.
        relation: &'r str,
        object: &'r str,
        alternatives: &'r [String],
        aliases: &'r [String],
        subject_aliases: &'r [String],
    },
    Question {
        question: &'r str,
        answer: &'r str,
        alternatives: &'r [String],
        aliases: &'r [String],
    },
    Text(&'r str),
}

/// The options that are drawn for one expression.
struct Options {
    wrong: Vec<String>,
    /// Right and wrong ones in the order shown.
    shown: Vec<String>,
    right: usize,
}

impl<'r> Told<'r> {
    /// The record, if it can be told in another form than its own.
    pub(super) fn of(record: &'r Record, forms: &'r Forms, world: &'r World) -> Option<Self> {
        if !super::is_told(record) {
            return None;
        }
        let content = match &record.kind {
            RecordKind::Fact { subject, relation, object, alternatives, aliases, subject_aliases } => Content::Fact {
                subject: subject.trim(),
                named: relation,
                relation: forms.templates.canonical(relation),
                object: object.trim(),
                alternatives,
                aliases,
                subject_aliases,
            },
            RecordKind::Question { question, answer, alternatives, aliases, .. } => {
                Content::Question { question: question.trim(), answer: answer.trim(), alternatives, aliases }
            }
            RecordKind::Text { text } => Content::Text(text.trim()),
            _ => return None,
        };
        let relation = match &content {
            Content::Fact { relation, .. } => Some(RelationSides::of(relation, forms)),
            _ => None,
        };
        Some(Told { record, forms, world, content, relation })
    }

    /// By which two records that say the same are recognised.
    pub(super) fn identity(&self) -> String {
        let parts: Vec<&str> = match &self.content {
            Content::Fact { subject, relation, object, .. } => vec!["fact", subject, relation, object],
            Content::Question { question, answer, .. } => vec!["question", question, answer],
            Content::Text(text) => vec!["text", text],
        };
        parts.into_iter().map(normalised).collect::<Vec<_>>().join("\u{1}")
    }

    pub(super) fn hears(&self, audience: Audience) -> bool {
        match self.content {
            Content::Fact { .. } => matches!(audience, Audience::Fact | Audience::FactOrQuestion),
            Content::Question { .. } => matches!(audience, Audience::Question | Audience::FactOrQuestion),
            Content::Text(_) => audience == Audience::Text,
        }
    }

    /// The wordings that a template can take from this record: none is one without a side.
    pub(super) fn wordings(
        &self,
        template: &Template,
        problem: &mut Option<String>,
    ) -> Vec<(Option<&Wording>, Option<Side>)> {
        let (Some(kind), Some(relation)) = (template.wording, &self.relation) else { return vec![(None, None)] };
        let list = relation.wordings.get(&kind).map_or(&[][..], Vec::as_slice);
        if list.is_empty() && problem.is_none() {
            let what = match kind {
                WordingKind::Phrases => "phrases",
                WordingKind::Questions => "questions",
                WordingKind::ReversedQuestions | WordingKind::ReversedPhrases => "reversed wordings",
            };
            *problem = Some(format!("the templates have no {what} of the relation `{}`", self.named()));
        }
        list.iter().map(|(wording, side)| (Some(&**wording), Some(*side))).collect()
    }

    fn named(&self) -> &str {
        match self.content {
            Content::Fact { named, .. } => named,
            _ => "",
        }
    }

    pub(super) fn expression(
        &self,
        form: &Arc<str>,
        template: &Template,
        wording: Option<&Wording>,
        escape: Escape,
        side: Side,
    ) -> std::result::Result<Made, String> {
        let phrasing: Arc<str> = match wording {
            Some(wording) => format!("{} | {}", template.text, wording.text).into(),
            None => template.text.clone(),
        };
        let purpose = format!("{form}\u{1}{phrasing}\u{1}{}", self.identity());
        let options = OnceCell::new();
        let drawn = || options.get_or_init(|| self.options(&purpose));
        let whole = |pieces: &[Piece]| wording.map_or(pieces.to_vec(), |wording| with_wording(pieces, &wording.pieces));
        let filled = |pieces: &[Piece]| {
            let pieces = whole(pieces);
            let value = |slot: Slot| self.value(slot, &drawn);
            let phrase = fill(&pieces, &value, escape).map_err(|slot| self.missing(slot))?;
            Ok::<_, String>((target_slot(&pieces), phrase))
        };
        let (target, body) = match &template.body {
            TemplateBody::Text(pieces) => {
                let (target, Phrase { text, target: range }) = filled(pieces)?;
                (target, Body::Text { text, target: range })
            }
            TemplateBody::Chat(user, assistant) => {
                let (_, question) = filled(user)?;
                let (_, answer) = filled(assistant)?;
                let target = if let [Piece::Slot(slot)] = assistant[..] { Some(slot) } else { None };
                (target, Body::Chat { question: question.text, answer: answer.text })
            }
        };
        let reversed = matches!(target, Some(Slot::Subject));
        if let (true, Content::Fact { relation, object, .. }) = (reversed, &self.content)
            && self.world.subjects(relation, object) > 1
        {
            return Err("several subjects have this object".into());
        }
        let (alternatives, aliases) = self.judged_by(target, &drawn);
        let expression = Expression { form: form.clone(), phrasing, side, body, alternatives, aliases };
        if expression.answer().trim().is_empty() {
            return Err("the target is empty".into());
        }
        let key = expression.compared();
        Ok(Made { expression, key, draw: Random::new(self.forms.seed, &format!("which\u{1}{purpose}")).bits() })
    }

    /// Wrong and other right answers where `target` is what is asked for.
    fn judged_by<'o>(&self, target: Option<Slot>, drawn: &dyn Fn() -> &'o Options) -> (Vec<String>, Vec<String>) {
        let (alternatives, aliases) = match &self.content {
            Content::Fact { alternatives, aliases, .. } | Content::Question { alternatives, aliases, .. } => {
                (*alternatives, *aliases)
            }
            Content::Text(_) => return (Vec::new(), Vec::new()),
        };
        match (target, &self.content) {
            (Some(Slot::Object), _) => {
                let given = if alternatives.is_empty() { drawn().wrong.clone() } else { alternatives.to_vec() };
                (given, aliases.to_vec())
            }
            (Some(Slot::ObjectAlias), Content::Fact { object, .. }) => {
                let names = std::iter::once((*object).to_string()).chain(aliases.iter().cloned());
                (drawn().wrong.clone(), names.collect())
            }
            (Some(Slot::Letter), _) => {
                let options = drawn();
                let wrong = (0..options.shown.len()).filter(|place| *place != options.right);
                (wrong.map(letter).collect(), Vec::new())
            }
            (Some(Slot::Subject), Content::Fact { subject_aliases, .. }) => (Vec::new(), subject_aliases.to_vec()),
            _ => (Vec::new(), Vec::new()),
        }
    }

    fn options(&self, purpose: &str) -> Options {
        let mut random = Random::new(self.forms.seed, purpose);
        let (about, right, aliases, given) = match &self.content {
            Content::Fact { subject, relation, object, aliases, alternatives, .. } => {
                (Some((*relation, *subject)), *object, *aliases, *alternatives)
            }
            Content::Question { answer, aliases, alternatives, .. } => (None, *answer, *aliases, *alternatives),
            Content::Text(text) => (None, *text, &[][..], &[][..]),
        };
        let all_right: Vec<&str> = std::iter::once(right).chain(aliases.iter().map(String::as_str)).collect();
        let wrong = self.world.wrong(about, &all_right, given, &mut random);
        let mut shown = wrong.clone();
        let place = random.below(shown.len() + 1);
        shown.insert(place, right.to_string());
        Options { wrong, shown, right: place }
    }

    fn value<'o>(&self, slot: Slot, drawn: &dyn Fn() -> &'o Options) -> Option<String> {
        let options = || Some(drawn()).filter(|options| !options.wrong.is_empty());
        match slot {
            Slot::Options => {
                let line = |(place, text): (usize, &String)| format!("{}. {text}", letter(place));
                return Some(options()?.shown.iter().enumerate().map(line).collect::<Vec<_>>().join("\n"));
            }
            Slot::List => return Some(options()?.shown.join(", ")),
            Slot::Letter => return Some(letter(options()?.right)),
            Slot::Alternative => return Some(options()?.wrong[0].clone()),
            _ => {}
        }
        match &self.content {
            Content::Fact { subject, named, object, aliases, subject_aliases, .. } => match slot {
                Slot::Subject => Some((*subject).to_string()),
                Slot::Object => Some((*object).to_string()),
                Slot::Relation => Some((*named).to_string()),
                Slot::Noun => self.relation.as_ref()?.noun.clone(),
                Slot::Key => Some(self.relation.as_ref()?.noun.as_deref()?.replace([' ', '-'], "_")),
                Slot::Spelled => Some(spelled(object)),
                Slot::Initial => Some(object.chars().next()?.to_string()),
                Slot::Length => Some(object.chars().count().to_string()),
                Slot::SubjectAlias => subject_aliases.first().cloned(),
                Slot::ObjectAlias => aliases.first().cloned(),
                Slot::NextNoun => Some(self.next(subject, object)?.0),
                Slot::NextObject => Some(self.next(subject, object)?.1),
                _ => None,
            },
            Content::Question { question, answer, aliases, .. } => match slot {
                Slot::Question | Slot::OwnQuestion => Some((*question).to_string()),
                Slot::Object => Some((*answer).to_string()),
                Slot::Spelled => Some(spelled(answer)),
                Slot::Initial => Some(answer.chars().next()?.to_string()),
                Slot::Length => Some(answer.chars().count().to_string()),
                Slot::ObjectAlias => aliases.first().cloned(),
                _ => None,
            },
            Content::Text(text) => match slot {
                Slot::Text => Some((*text).to_string()),
                Slot::TextStart => Some(text[..middle(text)?].to_string()),
                Slot::TextEnd => Some(text[middle(text)?..].to_string()),
                _ => None,
            },
        }
    }

    /// The first fact about the object that does not lead back: its noun and object.
    fn next(&self, subject: &str, object: &str) -> Option<(String, String)> {
        let back = normalised(subject);
        let fact = self.world.about(object).iter().find(|(_, next)| normalised(next) != back)?;
        let known = self.forms.templates.relation(&fact.0);
        let noun = known.and_then(|relation| relation.noun.clone()).or_else(|| derived_noun(&fact.0))?;
        Some((noun, fact.1.trim().to_string()))
    }

    /// Why a slot has no value.
    fn missing(&self, slot: Slot) -> String {
        match slot {
            Slot::Options | Slot::List | Slot::Letter | Slot::Alternative => {
                "no wrong answers are known: give `alternatives`, or more records of the kind".into()
            }
            Slot::SubjectAlias => "the record has no `subject_aliases`".into(),
            Slot::ObjectAlias => "the record has no `aliases`".into(),
            Slot::NextNoun | Slot::NextObject => "no record is about this fact's object".into(),
            Slot::Noun | Slot::Key => {
                format!("no template file gives the relation `{}` a noun", self.named())
            }
            Slot::TextStart | Slot::TextEnd => "the text is one word".into(),
            other => format!("the record has nothing for {{{}}}", other.name()),
        }
    }
}

/// The slot that is the whole target.
fn target_slot(pieces: &[Piece]) -> Option<Slot> {
    let start = pieces.iter().position(|piece| *piece == Piece::Open)?;
    match pieces[start..] {
        [Piece::Open, Piece::Slot(slot), Piece::Close, ..] => Some(slot),
        _ => None,
    }
}

fn letter(place: usize) -> String {
    char::from(b'A' + place as u8).to_string()
}

fn spelled(text: &str) -> String {
    let characters: Vec<String> = text.chars().filter(|c| !c.is_whitespace()).map(String::from).collect();
    characters.join("\n")
}

/// Where the white space nearest to a text's middle begins.
fn middle(text: &str) -> Option<usize> {
    let spaces = text.char_indices().filter(|(_, c)| c.is_whitespace()).map(|(at, _)| at);
    spaces.min_by_key(|at| at.abs_diff(text.len() / 2))
}
