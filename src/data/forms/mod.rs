//! Forms: a fact, a question with its answer, or a text, told in many ways; and which of them are never trained on.
//!
//! | file | what it holds |
//! |---|---|
//! | `slot.rs` | what a template is made of: text, slots, and the marks of the target |
//! | `templates.rs`, `parse.rs`, `builtin.json` | [`Templates`]: wordings per relation, templates per form; their file format |
//! | `split.rs` | which wordings and templates are for training and which are held out |
//! | `world.rs` | what the records of a set say about each other: wrong answers of the same kind, facts that follow on |
//! | `relation.rs` | a relation's wordings with their sides, and some for relations that nobody describes |
//! | `told.rs` | a record as templates see it: what their slots hold |
//! | `expand.rs` | [`expand`]: records to expressions, what comes out twice or on both sides refused |
//! | `expression.rs` | [`Expression`]: a record told in one form and wording; [`Refusal`]: why one was not |
//! | `openings.rs` | what stands before a subject that is spoken of, or before an object where its subject is asked for |
//! | `check.rs` | facts that contradict each other, aliases that name another thing |
//! | `normal.rs` | texts as they are compared |
//!
//! **Slots decide.** A template says what it needs by its slots; it applies to a record that can fill them all. So a new
//! form is a line of data.
//!
//! **The split.** A *wording* (a phrasing of a relation) and a *template* (a frame that a form puts around it) is either for
//! training or held out, drawn once by [`Forms::seed`]. An expression for training is made of training parts only; a held-out
//! one of a held-out wording, or, where a template needs no wording, of a held-out template; whole forms can be held out too. Texts
//! that come out alike on both sides (two templates that differ in punctuation only) are taken from the held-out side. `docs/forms.md`
//! has the rules in full; the file format is there too.

mod check;
mod expand;
mod expression;
mod normal;
mod openings;
mod parse;
mod relation;
mod slot;
mod split;
mod templates;
mod told;
mod world;

pub use check::{Checked, FactKey};
pub use expand::expand;
pub use expression::{Body, Expression, Refusal, counted};
pub use normal::normalised;
pub use split::Side;
pub use templates::Templates;

use std::sync::Arc;

use super::{Record, RecordKind};
use crate::{Error, Result};

/// Whether a record is told in forms: a fact, a question or a text without a `form` of its own. Others are taken as they are.
pub fn is_told(record: &Record) -> bool {
    let kind = matches!(record.kind, RecordKind::Fact { .. } | RecordKind::Question { .. } | RecordKind::Text { .. });
    kind && record.form.is_none()
}

/// Which forms a set of records is told in, and which side of the split.
#[derive(Debug, Clone)]
pub struct Forms {
    /// Wordings and templates.
    pub templates: Arc<Templates>,
    /// The forms, by name; none: all of them.
    pub chosen: Option<Vec<String>>,
    /// Forms that are held out as a whole: no sample for training is made of them.
    pub hold_out: Vec<String>,
    /// The share of wordings, and of templates, that is held out.
    pub share: f64,
    /// At most so many expressions of a record in each form, drawn by the seed.
    pub per_form: usize,
    /// The seed of the split and of everything else that is drawn.
    pub seed: u64,
    /// Which side samples come from; probes come from the other (see [`Forms::probing`]).
    pub side: Side,
}

impl Forms {
    /// All forms of `templates`, half of the wordings held out, at most two expressions of a record in each form.
    pub fn new(templates: Arc<Templates>) -> Self {
        Forms { templates, chosen: None, hold_out: Vec::new(), share: 0.5, per_form: 2, seed: 0, side: Side::Train }
    }

    /// The same split, seen from the side that is asked: the held-out one, in the forms `chosen` (none: all).
    pub fn probing(&self, chosen: Option<Vec<String>>) -> Self {
        Forms { chosen, side: Side::HeldOut, ..self.clone() }
    }

    /// Whether a form is among the chosen ones.
    pub fn takes(&self, form: &str) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| chosen.iter().any(|name| name == form))
    }

    /// Checks the names of forms and the figures.
    ///
    /// # Errors
    /// If a form is unknown or chosen twice, the share is not between 0 and 1, or no expression is allowed.
    pub fn check(&self) -> Result<()> {
        let lists = [("--forms", self.chosen.as_deref().unwrap_or_default()), ("--hold-out-forms", &self.hold_out)];
        for (flag, names) in lists {
            for (at, name) in names.iter().enumerate() {
                if self.templates.form(name).is_none() {
                    let known: Vec<_> = self.templates.form_names().collect();
                    return Err(Error::argument(format!(
                        "{flag}: there is no form `{name}`; there are {} (or `all`)",
                        known.join(", ")
                    )));
                }
                if names[..at].contains(name) {
                    return Err(Error::argument(format!("{flag} names the form `{name}` twice")));
                }
            }
        }
        if !(0.0..1.0).contains(&self.share) {
            let problem =
                format!("the held-out share of wordings is {}: it must be at least 0 and below 1", self.share);
            return Err(Error::argument(problem));
        }
        if self.per_form == 0 {
            return Err(Error::argument("at least one expression of a record is needed in each form"));
        }
        let training = |name: &str| self.takes(name) && !self.hold_out.iter().any(|held_out| held_out == name);
        if self.side == Side::Train && !self.templates.form_names().any(training) {
            return Err(Error::argument("every chosen form is held out: nothing is left to train on"));
        }
        Ok(())
    }

    /// Everything that the outcome depends on, for a hash.
    pub(super) fn describe(&self) -> serde_json::Value {
        serde_json::json!({
            "templates": self.templates.describe(), "chosen": self.chosen, "hold_out": self.hold_out,
            "share": self.share, "per_form": self.per_form, "seed": self.seed, "side": self.side.name(),
        })
    }
}

#[cfg(test)]
mod tests;
