//! A template with its slots filled, and where in the text the target stands.

use std::ops::Range;

/// A text of which a part is to be predicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Phrase {
    pub(super) text: String,
    /// The target's bytes in `text`.
    pub(super) target: Range<usize>,
}

impl Phrase {
    /// `template` with the slots `(name, what to put in)` of the given and of the target filled in one go: what is
    /// put in is not searched for slots again. The slot of the target must stand in the template.
    pub(super) fn fill(template: &str, given: (&str, &str), target: (&str, &str)) -> Self {
        let mut phrase = Phrase { text: String::with_capacity(template.len()), target: 0..0 };
        let mut rest = template;
        while let Some(at) = [given.0, target.0].into_iter().filter_map(|slot| rest.find(slot)).min() {
            phrase.text.push_str(&rest[..at]);
            let start = phrase.text.len();
            if let Some(after) = rest[at..].strip_prefix(given.0) {
                phrase.text.push_str(given.1);
                rest = after;
            } else {
                phrase.text.push_str(target.1);
                phrase.target = start..phrase.text.len();
                rest = &rest[at + target.0.len()..];
            }
        }
        phrase.text.push_str(rest);
        phrase
    }

    /// The text before the target without the space that separates them: what a person would be asked to complete.
    pub(super) fn given(&self) -> &str {
        self.text[..self.target.start].trim_end()
    }

    /// The same phrase, ending with its target.
    pub(super) fn cut_after_target(mut self) -> Self {
        self.text.truncate(self.target.end);
        self
    }
}
