//! What stands before a subject that is spoken of, or before an object where its subject is asked for.

use super::Forms;
use super::relation::RelationSides;
use super::slot::{Piece, Slot, WordingKind};
use super::split::Side;

impl Forms {
    /// What stands before the subject in the statements and questions of `relation`, of those for training only, each once. An
    /// empty text says that the subject comes first.
    pub fn openings(&self, relation: &str) -> Vec<String> {
        self.before(Slot::Subject, relation, [WordingKind::Phrases, WordingKind::Questions])
    }

    /// What stands before the object in the wordings of `relation` that go from the object to the subject, of those for training
    /// only, each once; empty where the templates have none. An empty text says that the object comes first.
    pub fn reversed_openings(&self, relation: &str) -> Vec<String> {
        self.before(Slot::Object, relation, [WordingKind::ReversedQuestions, WordingKind::ReversedPhrases])
    }

    fn before(&self, slot: Slot, relation: &str, kinds: [WordingKind; 2]) -> Vec<String> {
        let sides = RelationSides::of(relation, self);
        let lists = kinds.iter().filter_map(|kind| sides.wordings.get(kind)).flatten();
        let mut openings: Vec<String> = Vec::new();
        for (wording, _) in lists.filter(|(_, side)| *side == Side::Train) {
            if let Some(opening) = opening(&wording.pieces, slot).filter(|opening| !openings.contains(opening)) {
                openings.push(opening);
            }
        }
        openings
    }
}

/// The text before a slot; none where something else than text stands there.
fn opening(pieces: &[Piece], slot: Slot) -> Option<String> {
    let at = pieces.iter().position(|piece| matches!(piece, Piece::Slot(found) if *found == slot))?;
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
        let forms = |share: f64, seed: u64| Forms { share, seed, ..Forms::new(Arc::new(templates.clone())) };
        let at = |share: f64, seed: u64| forms(share, seed).reversed_openings("lies in");
        let all = at(0.0, 1);
        assert_eq!(all, ["In ", "To ", "", "Of "]);
        for seed in 0..6 {
            let some = at(0.5, seed);
            assert!(some.len() == 2 && some.iter().all(|opening| all.contains(opening)), "{some:?}");
            assert_eq!(some, at(0.5, seed));
        }
        assert!((1..20).any(|seed| at(0.5, seed) != at(0.5, 0)));
        assert!(forms(0.0, 1).reversed_openings("no such relation").is_empty());
    }

    #[test]
    fn a_relation_that_nobody_describes_has_plain_openings() {
        let forms = Forms { share: 0.0, ..Forms::new(Templates::builtin()) };
        let openings = ["The river of ", "", "For ", "What is the river of ", "Which river does "];
        assert_eq!(forms.openings("river"), openings);
        assert!(forms.openings("P99999999").is_empty());
        assert!(forms.openings("capital").contains(&"Which city is the capital of ".to_string()));
    }
}
