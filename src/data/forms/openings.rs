//! What stands before an object where its subject is asked for.

use super::Forms;
use super::slot::{Piece, Slot, WordingKind};
use super::split::{Side, sides};

impl Forms {
    /// What stands before the object in the wordings of `relation` that go from the object to the subject, of those for training
    /// only, each once; empty where the templates have none. An empty text says that the object comes first.
    pub fn reversed_openings(&self, relation: &str) -> Vec<String> {
        let Some(known) = self.templates.relation(relation) else { return Vec::new() };
        let mut openings: Vec<String> = Vec::new();
        for kind in [WordingKind::ReversedQuestions, WordingKind::ReversedPhrases] {
            let list = known.wordings.get(&kind).map_or(&[][..], Vec::as_slice);
            let fixed: Vec<_> = list.iter().map(|wording| wording.split).collect();
            // As expressions draw it, so that a held-out wording is held out here as well.
            let purpose = format!("{kind:?} of {}", self.templates.canonical(relation));
            let drawn = sides(&fixed, self.share, self.seed, &purpose);
            for (wording, _) in list.iter().zip(drawn).filter(|(_, side)| *side == Side::Train) {
                if let Some(opening) = opening(&wording.pieces).filter(|opening| !openings.contains(opening)) {
                    openings.push(opening);
                }
            }
        }
        openings
    }
}

/// The text before the object; none where something else than text stands there.
fn opening(pieces: &[Piece]) -> Option<String> {
    let at = pieces.iter().position(|piece| matches!(piece, Piece::Slot(Slot::Object)))?;
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => Some(text.clone()),
        _ => None,
    };
    pieces[..at].iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::Relations;
    use crate::data::forms::Templates;

    #[test]
    fn openings_are_those_of_the_wordings_for_training() {
        let mut templates = (*Templates::builtin()).clone();
        let mut relations = Relations::default();
        let phrasings = ["[X] lies in [Y]", "In [Y] lies [X]", "To [Y] belongs [X]", "[Y] holds [X]", "Of [Y] is [X]"];
        phrasings.iter().for_each(|text| relations.add("lies in", text).unwrap());
        templates.use_phrasings(&relations);
        let at = |share: f64, seed: u64| {
            let forms = Forms { share, seed, per_form: 100, ..Forms::new(Arc::new(templates.clone())) };
            (forms.reversed_openings("lies in"), forms)
        };
        let (all, _) = at(0.0, 1);
        assert_eq!(all, ["In ", "To ", "", "Of "]);
        for seed in 0..6 {
            let (some, forms) = at(0.5, seed);
            assert_eq!(some.len(), 2, "{some:?}");
            // What is asked of a fact in its held-out wordings begins with none of them.
            let record = crate::data::Record {
                kind: crate::data::RecordKind::Fact {
                    subject: "Ur".into(),
                    relation: "lies in".into(),
                    object: "Sumer".into(),
                    alternatives: Vec::new(),
                    aliases: Vec::new(),
                    subject_aliases: Vec::new(),
                },
                form: None,
                origin: crate::data::Origin { path: Arc::from(std::path::Path::new("f.jsonl")), line: 1 },
            };
            let probing = forms.probing(Some(vec!["reversed".into()]));
            let (expressions, _) = crate::data::forms::expand(&[record], &probing).unwrap();
            let texts: Vec<String> = expressions
                .iter()
                .flatten()
                .filter_map(|expression| match &expression.body {
                    crate::data::forms::Body::Text { text, .. } if !text.contains('?') => Some(text.clone()),
                    _ => None,
                })
                .collect();
            let begins = |opening: &String| texts.iter().any(|text| text.starts_with(&format!("{opening}Sumer")));
            assert!(!texts.is_empty() && !some.iter().any(begins), "{some:?}: {texts:?}");
        }
        assert!(at(0.0, 1).1.reversed_openings("no such relation").is_empty());
    }
}
