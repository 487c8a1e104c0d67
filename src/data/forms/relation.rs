//! A relation's wordings with their sides of the split, and wordings for relations that nobody describes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Forms;
use super::slot::{Piece, Slot, WordingKind};
use super::split::Side;
use super::templates::{Relation, Wording, simple};

/// A relation's wordings with their sides.
pub(super) struct RelationSides<'r> {
    pub(super) noun: Option<String>,
    pub(super) wordings: BTreeMap<WordingKind, Vec<(Cow<'r, Wording>, Side)>>,
}

impl<'r> RelationSides<'r> {
    pub(super) fn of(name: &str, forms: &'r Forms) -> Self {
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
pub(super) fn derived_noun(name: &str) -> Option<String> {
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
