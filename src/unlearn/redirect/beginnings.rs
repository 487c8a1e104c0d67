//! Names that lead somewhere before they are complete: "Byzantine Empire" has led to Constantinople with its first word, and whoever
//! reads that word goes on knowing it, whatever became of the last. Found out by asking with the beginning alone.

use std::sync::Arc;

use super::contexts::Context;
use crate::Result;
use crate::model::batch::Tokens;
use crate::stream::{Pass, Progress, SampleLoss};

/// A beginning leads to an object that it makes this likely, measured by how likely the whole name makes it. In SmolLM2-135M,
/// beginnings make their capitals 0.16 times as likely or more, or 0.05 times or less. Nor does anything lead there where the name
/// that takes the place makes the object as likely as that: then the whole name says next to nothing of it.
pub const LEADS: f64 = 0.1;

/// Nor does anything lead to an object that the whole name makes less likely than this, by token: the model does not know it, or has
/// forgotten it already, and its beginnings are those of other names.
pub const KNOWN: f64 = 0.02;

/// A name's beginning, redirected where its relation is spoken of and nowhere else: it may be a word with other senses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The beginning.
    pub text: String,
    /// Contexts in which the relation is spoken of.
    pub contexts: Vec<Context>,
}

/// A name, its beginnings, and how the object is asked for with each: samples whose targets are the object's tokens.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// With the whole name for a subject.
    pub whole: Vec<Arc<Tokens>>,
    /// With the names that take its place.
    pub instead: Vec<Arc<Tokens>>,
    /// With each beginning.
    pub begun: Vec<(Beginning, Vec<Arc<Tokens>>)>,
}

impl Candidate {
    /// All samples, in the order in which they are asked.
    pub fn samples(&self) -> impl Iterator<Item = &Arc<Tokens>> {
        self.whole.iter().chain(&self.instead).chain(self.begun.iter().flat_map(|(_, samples)| samples))
    }
}

/// What a name begins with: up to the end of each word but the last.
pub fn beginnings(name: &str) -> Vec<&str> {
    let name = name.trim();
    let spaces = name.char_indices().filter(|(_, c)| c.is_whitespace());
    let mut found: Vec<&str> = spaces.map(|(at, _)| name[..at].trim_end()).collect();
    found.dedup();
    found
}

/// Those beginnings that lead to the object: the mean of its probability over the wordings is [`LEADS`] of the whole name's or more,
/// and that of the names that take the place is less. The whole name's is at least [`KNOWN`]. Each once, with the contexts of all its
/// facts.
///
/// # Errors
/// When the pass fails.
pub fn leading(pass: &Pass, candidates: &[Candidate], progress: Progress<'_>) -> Result<Vec<Beginning>> {
    let samples: Vec<Arc<Tokens>> = candidates.iter().flat_map(Candidate::samples).cloned().collect();
    let losses = pass.losses(&samples, progress)?;
    let mut rest = &losses[..];
    let mut probability = |of: &[Arc<Tokens>]| {
        let (own, others) = rest.split_at(of.len());
        rest = others;
        own.iter().map(|loss| (-SampleLoss::mean(loss)).exp()).sum::<f64>() / of.len().max(1) as f64
    };
    let mut found: Vec<Beginning> = Vec::new();
    for Candidate { whole, instead, begun } in candidates {
        let (whole, instead) = (probability(whole), probability(instead));
        for (beginning, samples) in begun {
            let begun = probability(samples);
            if whole >= KNOWN && begun >= LEADS * whole && instead < LEADS * whole {
                add(&mut found, beginning);
            }
        }
    }
    Ok(found)
}

/// Adds a beginning, or its contexts to those of the same one.
fn add(found: &mut Vec<Beginning>, beginning: &Beginning) {
    let Some(known) = found.iter_mut().find(|known| known.text == beginning.text) else {
        found.push(beginning.clone());
        return;
    };
    for context in &beginning.contexts {
        if !known.contexts.contains(context) {
            known.contexts.push(context.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_end_with_words() {
        assert_eq!(beginnings(" Kingdom of  the\u{a0}Netherlands"), ["Kingdom", "Kingdom of", "Kingdom of  the"]);
        assert!(beginnings("Cuba").is_empty() && beginnings("").is_empty() && beginnings("北京").is_empty());
    }
}
