//! What stands before an object where its subject is asked for.

use super::Forms;
use super::slot::{Piece, Slot, WordingKind};
use super::split::Side;

impl Forms {
    /// What stands before the object in the wordings of `relation` that go from the object to the subject, of those for training
    /// only, each once; empty where the templates have none. An empty text says that the object comes first.
    pub fn reversed_openings(&self, relation: &str) -> Vec<String> {
        let Some(known) = self.templates.relation(relation) else { return Vec::new() };
        let mut openings: Vec<String> = Vec::new();
        for kind in [WordingKind::ReversedQuestions, WordingKind::ReversedPhrases] {
            let list = known.wordings.get(&kind).map_or(&[][..], Vec::as_slice);
            let fixed: Vec<_> = list.iter().map(|wording| wording.split).collect();
            let drawn = self.wording_sides(relation, kind, &fixed);
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
}
