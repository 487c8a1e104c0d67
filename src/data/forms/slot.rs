//! What a template is made of: text, slots, and the marks around the target.

use super::super::phrase::Phrase;

/// Something that a record gives to a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Slot {
    /// What the fact is about.
    Subject,
    /// The right object, or the right answer of a question.
    Object,
    /// The relation as the record names it.
    Relation,
    /// The relation as a noun: `place of birth`.
    Noun,
    /// The noun as a name in code: `place_of_birth`.
    Key,
    /// A whole wording, its object the target.
    Phrase,
    /// A wording up to its object.
    Given,
    /// A wording with a gap instead of the object.
    Blanked,
    /// A whole wording, no target in it.
    Claim,
    /// A wording with a wrong object.
    FalseClaim,
    /// A question for the object; a question record's own.
    Question,
    /// A question record's own question.
    OwnQuestion,
    /// A question for the subject.
    ReversedQuestion,
    /// A wording in which the subject comes last, and is the target.
    ReversedPhrase,
    /// [`Slot::Phrase`] with another name of the subject.
    AliasPhrase,
    /// [`Slot::Question`] with another name of the subject.
    AliasQuestion,
    /// Another name of the subject.
    SubjectAlias,
    /// Another name of the object.
    ObjectAlias,
    /// Right and wrong objects, each on a line behind a letter.
    Options,
    /// The same in a row.
    List,
    /// The letter of the right option.
    Letter,
    /// A wrong object.
    Alternative,
    /// The object, one character a line.
    Spelled,
    /// The object's first character.
    Initial,
    /// How many characters the object has.
    Length,
    /// The noun of a fact whose subject is this one's object.
    NextNoun,
    /// That fact's object.
    NextObject,
    /// A text.
    Text,
    /// The first half of a text, cut between words.
    TextStart,
    /// The second half, with the white space before it.
    TextEnd,
}

/// Every slot with its name in files.
pub(super) const SLOTS: [(&str, Slot); 30] = [
    ("subject", Slot::Subject),
    ("object", Slot::Object),
    ("relation", Slot::Relation),
    ("noun", Slot::Noun),
    ("key", Slot::Key),
    ("phrase", Slot::Phrase),
    ("given", Slot::Given),
    ("blanked", Slot::Blanked),
    ("claim", Slot::Claim),
    ("false_claim", Slot::FalseClaim),
    ("question", Slot::Question),
    ("own_question", Slot::OwnQuestion),
    ("reversed_question", Slot::ReversedQuestion),
    ("reversed_phrase", Slot::ReversedPhrase),
    ("alias_phrase", Slot::AliasPhrase),
    ("alias_question", Slot::AliasQuestion),
    ("subject_alias", Slot::SubjectAlias),
    ("object_alias", Slot::ObjectAlias),
    ("options", Slot::Options),
    ("list", Slot::List),
    ("letter", Slot::Letter),
    ("alternative", Slot::Alternative),
    ("spelled", Slot::Spelled),
    ("initial", Slot::Initial),
    ("length", Slot::Length),
    ("next_noun", Slot::NextNoun),
    ("next_object", Slot::NextObject),
    ("text", Slot::Text),
    ("text_start", Slot::TextStart),
    ("text_end", Slot::TextEnd),
];

/// The lists of wordings that a relation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum WordingKind {
    /// Statements in which the object follows the subject.
    Phrases,
    /// Questions for the object.
    Questions,
    /// Questions for the subject.
    ReversedQuestions,
    /// Statements in which the subject follows the object.
    ReversedPhrases,
}

impl Slot {
    /// The slot's name in files.
    pub(super) fn name(self) -> &'static str {
        SLOTS.iter().find(|(_, slot)| *slot == self).map_or("", |(name, _)| name)
    }

    /// The list that the slot takes a wording from.
    pub(super) fn wording(self) -> Option<WordingKind> {
        match self {
            Slot::Phrase | Slot::Given | Slot::Blanked | Slot::Claim | Slot::FalseClaim | Slot::AliasPhrase => {
                Some(WordingKind::Phrases)
            }
            Slot::Question | Slot::AliasQuestion => Some(WordingKind::Questions),
            Slot::ReversedQuestion => Some(WordingKind::ReversedQuestions),
            Slot::ReversedPhrase => Some(WordingKind::ReversedPhrases),
            _ => None,
        }
    }

    /// Whether the slot brings the target with it.
    pub(super) fn has_target(self) -> bool {
        matches!(self, Slot::Phrase | Slot::AliasPhrase | Slot::ReversedPhrase)
    }
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Slot(Slot),
    /// `[[`: the target begins.
    Open,
    /// `]]`: the target ends.
    Close,
}

/// The parts of a template's text. A lower-case name in braces must be a slot; other braces are text.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (piece, length) = if rest.starts_with("[[") {
            (Some(Piece::Open), 2)
        } else if let Some(after) = rest.strip_prefix("]]") {
            // Of `]]]` the last two are the mark, so that a target may end with a bracket.
            if after.starts_with(']') { (None, 1) } else { (Some(Piece::Close), 2) }
        } else if let Some(name) = slot_name(rest) {
            let known = SLOTS.iter().find(|(known, _)| *known == name);
            let (_, slot) = known.ok_or_else(|| {
                let names: Vec<_> = SLOTS.iter().map(|(name, _)| *name).collect();
                format!("`{{{name}}}` is no slot; there are {}", names.join(", "))
            })?;
            (Some(Piece::Slot(*slot)), name.len() + 2)
        } else {
            (None, c.len_utf8())
        };
        match piece {
            Some(piece) => {
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(piece);
            }
            None => literal.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

/// The name in braces at the beginning of `text`.
fn slot_name(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('{')?.split_once('}')?;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).then_some(name)
}

/// The slots among pieces.
pub(super) fn slots(pieces: &[Piece]) -> impl Iterator<Item = Slot> + '_ {
    pieces.iter().filter_map(|piece| match piece {
        Piece::Slot(slot) => Some(*slot),
        _ => None,
    })
}

/// How values are written into a template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Escape {
    /// As they are.
    #[default]
    None,
    /// As inside the quotes of a JSON string.
    Json,
}

impl Escape {
    fn apply(self, text: String) -> String {
        match self {
            Escape::None => text,
            Escape::Json => {
                let quoted = serde_json::Value::String(text).to_string();
                quoted[1..quoted.len() - 1].to_string()
            }
        }
    }
}

/// Fills the slots; the target is what stands between the marks (nothing at the end where there are none).
///
/// # Errors
/// The first slot that has no value.
pub(super) fn fill(pieces: &[Piece], value: &dyn Fn(Slot) -> Option<String>, escape: Escape) -> Result<Phrase, Slot> {
    let (mut text, mut start, mut end) = (String::new(), None, None);
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Slot(slot) => text.push_str(&escape.apply(value(*slot).ok_or(*slot)?)),
            Piece::Open => start = Some(text.len()),
            Piece::Close => end = Some(text.len()),
        }
    }
    let end = end.unwrap_or(text.len());
    Ok(Phrase { target: start.unwrap_or(end).min(end)..end, text })
}

/// Puts a wording into a template in place of the slots that stand for it.
pub(super) fn with_wording(template: &[Piece], wording: &[Piece]) -> Vec<Piece> {
    let mut out = Vec::new();
    for piece in template {
        match piece {
            Piece::Slot(slot) if slot.wording().is_some() => push_wording(&mut out, *slot, wording),
            other => out.push(other.clone()),
        }
    }
    out
}

fn push_wording(out: &mut Vec<Piece>, slot: Slot, wording: &[Piece]) {
    let target = if slot == Slot::ReversedPhrase { Slot::Subject } else { Slot::Object };
    let start = out.len();
    for piece in wording {
        match (piece, slot) {
            (Piece::Slot(found), _) if *found == target && slot.has_target() => {
                out.extend([Piece::Open, piece.clone(), Piece::Close]);
            }
            (Piece::Slot(Slot::Object), Slot::Blanked) => out.push(Piece::Text("____".into())),
            (Piece::Slot(Slot::Object), Slot::FalseClaim) => out.push(Piece::Slot(Slot::Alternative)),
            (Piece::Slot(Slot::Object), Slot::Given) => break,
            _ => out.push(piece.clone()),
        }
    }
    if matches!(slot, Slot::AliasPhrase | Slot::AliasQuestion) {
        out[start..].iter_mut().filter(|piece| **piece == Piece::Slot(Slot::Subject)).for_each(|piece| {
            *piece = Piece::Slot(Slot::SubjectAlias);
        });
    }
    if let (Slot::Given, Some(Piece::Text(last))) = (slot, out.last_mut()) {
        last.truncate(last.trim_end().len());
    }
}
