//! What is to be forgotten must not be among what is to be kept, nor contradict it.

use std::collections::HashMap;

use efface::Result;
use efface::data::forms::normalised;
use efface::data::{Dataset, Encoder, NOT_A_TARGET, Origin, Sample};

use super::super::input::Input;

/// Refuses a retain set that has a fact or a text of the forget set, or says something else of a subject.
///
/// # Errors
/// Names both lines.
pub fn check(input: &Input, forget: &Dataset, retain: &Dataset) -> Result<()> {
    if let Some((ours, theirs)) = forget.facts.shared(&retain.facts) {
        return Err(same(theirs, ours, "states the fact"));
    }
    forget.facts.clone().join(&retain.facts)?;
    let Some(encoder) = input.encoder() else { return Ok(()) };
    let mut texts: HashMap<String, &Origin> = HashMap::new();
    for sample in &forget.samples {
        texts.entry(text(sample, encoder)?).or_insert(&sample.origin);
    }
    for sample in &retain.samples {
        if let Some(ours) = texts.get(&text(sample, encoder)?) {
            return Err(same(&sample.origin, ours, "says the same"));
        }
    }
    Ok(())
}

fn same(theirs: &Origin, ours: &Origin, what: &str) -> efface::Error {
    let (path, line) = (ours.path.display(), ours.line);
    theirs.error(format!("is to be kept, but {path} line {line} {what} and is to be forgotten; remove one of them"))
}

/// A sample's text up to the end of its last target, as texts are compared.
///
/// # Errors
/// When the tokenizer cannot decode it.
pub fn text(sample: &Sample, encoder: &dyn Encoder) -> Result<String> {
    let end = sample.labels.iter().rposition(|label| *label != NOT_A_TARGET).map_or(sample.ids.len(), |last| last + 1);
    Ok(normalised(&encoder.decode(&sample.ids[..end], true)?))
}
