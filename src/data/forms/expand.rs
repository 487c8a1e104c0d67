//! Records to expressions: each form's templates filled from each record, on one side of the split.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::Forms;
use super::normal::normalised;
use super::slot::{Escape, Piece, Slot, WordingKind, fill, with_wording};
use super::split::{Side, combined};
use super::templates::{Audience, Form, Relation, Template, TemplateBody, Wording, simple};
use super::world::World;
use crate::Result;
use crate::data::phrase::Phrase;
use crate::data::{Origin, Record, RecordKind};
use crate::random::Random;

/// A record told in one form and wording.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// The form's name.
    pub form: Arc<str>,
    /// Template and wording, with their slots: what makes this expression another one than its siblings.
    pub phrasing: Arc<str>,
    /// The side of the split.
    pub side: Side,
    /// What is said.
    pub body: Body,
    /// Wrong answers of the same kind as the right one, where the form asks for the object.
    pub alternatives: Vec<String>,
    /// Other right answers.
    pub aliases: Vec<String>,
}

/// What an expression says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A text, and the bytes of it that are to be predicted.
    Text {
        /// All of it.
        text: String,
        /// The target's bytes.
        target: std::ops::Range<usize>,
    },
    /// A question and its answer, written by the chat template where there is one.
    Chat {
        /// What the user says.
        question: String,
        /// What is to be predicted.
        answer: String,
    },
}

impl Expression {
    /// The right answer.
    pub fn answer(&self) -> &str {
        match &self.body {
            Body::Text { text, target } => &text[target.clone()],
            Body::Chat { answer, .. } => answer,
        }
    }

    /// The same with another answer, and nothing behind it.
    pub fn with_answer(&self, answer: &str) -> Self {
        let body = match &self.body {
            Body::Text { text, target } => {
                let text = format!("{}{answer}", &text[..target.start]);
                Body::Text { target: target.start..text.len(), text }
            }
            Body::Chat { question, .. } => Body::Chat { question: question.clone(), answer: answer.to_string() },
        };
        Expression { body, ..self.clone() }
    }

    /// The text by which two expressions are compared: up to the end of the answer, normalised.
    pub fn compared(&self) -> String {
        match &self.body {
            Body::Text { text, target } => normalised(&text[..target.end]),
            Body::Chat { question, answer } => normalised(&format!("{question} → {answer}")),
        }
    }
}

/// Something that was not made, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The record.
    pub origin: Origin,
    /// The form, where only one is concerned.
    pub form: Option<Arc<str>>,
    /// Why.
    pub reason: String,
}

/// Tells `records` in the chosen forms. The expressions of each record stand in one list (empty for a record that is taken as it
/// is: tokens, completions, conversations, and whatever carries a `form` of its own); also what was refused.
///
/// The whole set is looked at: wrong options come from the other facts of a relation, and no text of the held-out side equals,
/// [`normalised`], a text that could be trained on.
///
/// # Errors
/// If a form is unknown or a figure out of range.
pub fn expand(records: &[Record], forms: &Forms) -> Result<(Vec<Vec<Expression>>, Vec<Refusal>)> {
    forms.check()?;
    let world = World::of(records, &forms.templates);
    let plan = Plan::of(forms);
    let mut refused = Vec::new();
    let mut made: Vec<Vec<Made>> = Vec::with_capacity(records.len());
    let mut known: HashMap<String, &Origin> = HashMap::new();
    for record in records {
        let told = Told::of(record, forms, &world);
        let first = told.as_ref().map(|told| *known.entry(told.identity()).or_insert(&record.origin));
        match (told, first) {
            (Some(_), Some(first)) if *first != record.origin => {
                let reason = format!("says the same as {} line {}", first.path.display(), first.line);
                refused.push(Refusal { origin: record.origin.clone(), form: None, reason });
                made.push(Vec::new());
            }
            (Some(told), _) => made.push(plan.tell(&told, &mut refused)),
            (None, _) => made.push(Vec::new()),
        }
    }
    let trained: HashSet<&str> = made.iter().flatten().filter(|m| m.side() == Side::Train).map(|m| &*m.key).collect();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut kept: Vec<Vec<bool>> = Vec::with_capacity(made.len());
    for (record, list) in records.iter().zip(&made) {
        let mut keep = vec![false; list.len()];
        for (one, keep) in list.iter().zip(&mut keep) {
            if one.side() != forms.side || !forms.takes(&one.expression.form) {
                continue;
            }
            let trained_on = one.side() == Side::HeldOut && trained.contains(&*one.key);
            let reason = match (trained_on, seen.insert(&one.key)) {
                (true, _) => format!("`{}` makes a text that is trained on", one.expression.phrasing),
                (_, false) => format!("`{}` makes a text that is there already", one.expression.phrasing),
                _ => {
                    *keep = true;
                    continue;
                }
            };
            let form = Some(one.expression.form.clone());
            refused.push(Refusal { origin: record.origin.clone(), form, reason });
        }
        kept.push(keep);
    }
    let of_record = |(list, keep): (Vec<Made>, Vec<bool>)| {
        let list = list.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(one, _)| one).collect();
        plan.limited(list)
    };
    Ok((made.into_iter().zip(kept).map(of_record).collect(), refused))
}

/// An expression with what it is compared and drawn by.
struct Made {
    expression: Expression,
    key: String,
    draw: u64,
}

impl Made {
    fn side(&self) -> Side {
        self.expression.side
    }
}

/// A form under its name, with the side of each template.
type SidedForm<'f> = (Arc<str>, &'f Form, Vec<Option<Side>>);

/// The sides of every template, and of every wording as relations come up.
struct Plan<'f> {
    forms: &'f Forms,
    templates: Vec<SidedForm<'f>>,
}

impl<'f> Plan<'f> {
    fn of(forms: &'f Forms) -> Self {
        let one = |(name, form): &'f (String, Form)| {
            (Arc::from(name.as_str()), form, form.sides(name, forms.share, forms.seed))
        };
        Plan { forms, templates: forms.templates.forms.iter().map(one).collect() }
    }

    /// Every expression of a record, on both sides and in all forms; for each chosen form that makes none, why.
    fn tell(&self, told: &Told<'_>, refused: &mut Vec<Refusal>) -> Vec<Made> {
        let mut made = Vec::new();
        for (name, form, sides) in &self.templates {
            let held_out = self.forms.hold_out.iter().any(|held_out| **held_out == **name);
            let before = made.len();
            let mut problem = None;
            for ((template, escape), side) in form.templates.iter().zip(&form.escape).zip(sides) {
                if !told.hears(template.audience) {
                    continue;
                }
                for (wording, wording_side) in told.wordings(template, &mut problem) {
                    let Some(side) = combined(*side, wording_side, held_out) else { continue };
                    match told.expression(name, template, wording, *escape, side) {
                        Ok(one) => made.push(one),
                        Err(reason) => problem = problem.or(Some(reason)),
                    }
                }
            }
            if self.forms.takes(name) && !made[before..].iter().any(|one| one.side() == self.forms.side) {
                let reason = match (problem, self.forms.side) {
                    (Some(problem), _) => problem,
                    (None, Side::Train) if held_out => continue,
                    (None, side) => format!("no {} phrasing for this kind of record", side.name()),
                };
                refused.push(Refusal { origin: told.record.origin.clone(), form: Some(name.clone()), reason });
            }
        }
        made
    }

    /// At most so many of each form, drawn; in their old order.
    fn limited(&self, list: Vec<Made>) -> Vec<Expression> {
        let mut by_form: BTreeMap<Arc<str>, Vec<(u64, usize)>> = BTreeMap::new();
        for (at, one) in list.iter().enumerate() {
            by_form.entry(one.expression.form.clone()).or_default().push((one.draw, at));
        }
        let chosen: HashSet<usize> = by_form
            .into_values()
            .flat_map(|mut drawn| {
                drawn.sort_unstable();
                drawn.into_iter().take(self.forms.per_form).map(|(_, at)| at)
            })
            .collect();
        let list = list.into_iter().enumerate().filter(|(at, _)| chosen.contains(at));
        list.map(|(_, one)| one.expression).collect()
    }
}

/// A record with what templates ask it for.
struct Told<'r> {
    record: &'r Record,
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

/// A relation's wordings with their sides.
struct RelationSides<'r> {
    noun: Option<String>,
    wordings: BTreeMap<WordingKind, Vec<(std::borrow::Cow<'r, Wording>, Side)>>,
}

impl<'r> RelationSides<'r> {
    fn of(name: &str, forms: &'r Forms) -> Self {
        use std::borrow::Cow;
        let known = forms.templates.relation(name);
        let noun = known.and_then(|relation| relation.noun.clone()).or_else(|| derived_noun(name));
        let mut wordings = BTreeMap::new();
        for kind in
            [WordingKind::Phrases, WordingKind::Questions, WordingKind::ReversedQuestions, WordingKind::ReversedPhrases]
        {
            let own = known.and_then(|relation: &Relation| relation.wordings.get(&kind));
            let list: Vec<Cow<'r, Wording>> = match (own, &noun) {
                (Some(list), _) => list.iter().map(Cow::Borrowed).collect(),
                (None, Some(noun)) => derived(kind, noun).into_iter().map(Cow::Owned).collect(),
                (None, None) => Vec::new(),
            };
            let fixed: Vec<_> = list.iter().map(|wording| wording.split).collect();
            let drawn = forms.wording_sides(name, kind, &fixed);
            wordings.insert(kind, list.into_iter().zip(drawn).collect());
        }
        RelationSides { noun, wordings }
    }
}

/// A noun for a relation that nobody describes; none for an id such as P36.
fn derived_noun(name: &str) -> Option<String> {
    let simple = simple(name);
    let id = simple.strip_prefix('p').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    (!id && !simple.is_empty()).then_some(simple)
}

/// Wordings that fit any noun.
fn derived(kind: WordingKind, noun: &str) -> Vec<Wording> {
    let (subject, object) = (|| Piece::Slot(Slot::Subject), || Piece::Slot(Slot::Object));
    let text = |text: String| Piece::Text(text);
    let lists = match kind {
        WordingKind::Phrases => vec![
            vec![text(format!("The {noun} of ")), subject(), text(" is ".into()), object(), text(".".into())],
            vec![subject(), text(format!("'s {noun} is ")), object(), text(".".into())],
            vec![text("For ".into()), subject(), text(format!(", the {noun} is ")), object(), text(".".into())],
            vec![subject(), text(format!(" has the {noun} ")), object(), text(".".into())],
        ],
        WordingKind::Questions => vec![
            vec![text(format!("What is the {noun} of ")), subject(), text("?".into())],
            vec![text(format!("Which {noun} does ")), subject(), text(" have?".into())],
        ],
        // Whether the object tells the subject is not known.
        WordingKind::ReversedQuestions | WordingKind::ReversedPhrases => Vec::new(),
    };
    let wording = |pieces: Vec<Piece>| {
        let part = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Slot(slot) => format!("{{{}}}", slot.name()),
            Piece::Open | Piece::Close => String::new(),
        };
        Wording { text: pieces.iter().map(part).collect::<String>().into(), pieces, split: None }
    };
    lists.into_iter().map(wording).collect()
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
    fn of(record: &'r Record, forms: &'r Forms, world: &'r World) -> Option<Self> {
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
    fn identity(&self) -> String {
        let parts: Vec<&str> = match &self.content {
            Content::Fact { subject, relation, object, .. } => vec!["fact", subject, relation, object],
            Content::Question { question, answer, .. } => vec!["question", question, answer],
            Content::Text(text) => vec!["text", text],
        };
        parts.into_iter().map(normalised).collect::<Vec<_>>().join("\u{1}")
    }

    fn hears(&self, audience: Audience) -> bool {
        match self.content {
            Content::Fact { .. } => matches!(audience, Audience::Fact | Audience::FactOrQuestion),
            Content::Question { .. } => matches!(audience, Audience::Question | Audience::FactOrQuestion),
            Content::Text(_) => audience == Audience::Text,
        }
    }

    /// The wordings that a template can take from this record: none is one without a side.
    fn wordings(&self, template: &Template, problem: &mut Option<String>) -> Vec<(Option<&Wording>, Option<Side>)> {
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

    fn expression(
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

/// How many of a list of refusals have the same form and reason, most frequent first, with the first record of each.
pub fn counted(refused: &[Refusal]) -> Vec<(usize, &Refusal)> {
    let mut order: Vec<(usize, &Refusal)> = Vec::new();
    let mut places: HashMap<(Option<&str>, &str), usize> = HashMap::new();
    for refusal in refused {
        let place = *places.entry((refusal.form.as_deref(), &refusal.reason)).or_insert_with(|| {
            order.push((0, refusal));
            order.len() - 1
        });
        order[place].0 += 1;
    }
    order.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    order
}
