//! Probes: questions with a gold answer, used only to evaluate.

use std::path::Path;

use super::NOT_A_TARGET;
use super::encoder::Encoder;
use super::records::{Origin, Record, RecordKind};
use super::relations::ends_with_object;
use super::sample::{InputFile, ReadOptions, Sample, digest, read_files};
use super::tokens::{Limits, Tokens, needed, phrase_tokens, phrases, tokens};
use crate::{Error, Result};

/// What a probe can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// A question with an answer: it can be answered by generation, and its gold answer has a probability.
    Answer,
    /// Plain text: it has a perplexity only.
    Text,
}

/// A question with its gold answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// What it can be used for.
    pub kind: ProbeKind,
    /// The tokens that are given, never empty: generation starts after them.
    pub prompt_ids: Vec<u32>,
    /// The tokens of the gold answer, never empty: with the end token where a chat template writes one.
    pub gold_ids: Vec<u32>,
    /// The gold answer as text, if known: without special tokens and surrounding white space.
    pub gold_text: Option<String>,
    /// What is asked, as text, if known.
    pub question: Option<String>,
    /// Wrong answers of the same kind (a fact's `alternatives`).
    pub alternatives: Vec<String>,
    /// Other right answers (a fact's `aliases`).
    pub aliases: Vec<String>,
    /// The record's form; of a fact without one, the phrasing.
    pub form: Option<String>,
    /// The record that it was made from.
    pub origin: Origin,
}

impl Probe {
    /// The probe as a sample whose targets are the gold answer.
    pub fn sample(&self) -> Sample {
        let Tokens { ids, labels } = Tokens::followed_by(&self.prompt_ids, &self.gold_ids);
        Sample { ids, labels, origin: self.origin.clone(), form: self.form.clone() }
    }
}

/// The probes of one or more files, in the order of the files and of their lines.
#[derive(Debug, Clone)]
pub struct ProbeSet {
    /// The probes.
    pub probes: Vec<Probe>,
    /// The files that they come from.
    pub files: Vec<InputFile>,
    /// SHA-256, in hexadecimal, of files, options and tokens, as [`Dataset::sha256`](super::Dataset::sha256).
    pub sha256: String,
}

/// Reads files of JSON Lines as probes.
///
/// The gold answer is the last run of targets of the sample that the record would make, the prompt all that stands
/// before it (so of a conversation, the last turn of the assistant). A fact makes a probe for each phrasing that ends
/// with its object, apart from punctuation, and the prompt ends before it.
///
/// # Errors
/// As [`read_dataset`](super::read_dataset); also a fact whose relation has no phrasing that ends with the object. An
/// answer is never truncated.
pub fn read_probes(
    paths: &[impl AsRef<Path>],
    encoder: Option<&dyn Encoder>,
    options: &ReadOptions,
) -> Result<ProbeSet> {
    let mut probes = Vec::new();
    let read = read_files(paths, options, |record| {
        probes.extend(record_probes(record, encoder, options).map_err(|error| record.origin.blame(error))?);
        Ok(())
    })?;
    let samples: Vec<_> = probes.iter().map(Probe::sample).collect();
    let sha256 = digest(&read.files, options, samples.iter().map(|sample| (&sample.ids[..], &sample.labels[..])));
    Ok(ProbeSet { probes, files: read.files, sha256 })
}

fn record_probes(record: &Record, encoder: Option<&dyn Encoder>, options: &ReadOptions) -> Result<Vec<Probe>> {
    let RecordKind::Fact { subject, relation, object, alternatives, aliases } = &record.kind else {
        return Ok(vec![probe(record, encoder, options)?]);
    };
    let encoder = needed(encoder, record)?;
    let mut probes = Vec::new();
    for (template, phrase) in phrases(subject, relation, object, &options.relations)? {
        if !template.is_none_or(ends_with_object) {
            continue;
        }
        let phrase = phrase.cut_after_target();
        let tokens = phrase_tokens(&phrase, encoder)?.checked(&record.origin, untruncated(options))?;
        let mut probe = split(record, ProbeKind::Answer, tokens);
        probe.question = Some(phrase.given().to_string());
        probe.gold_text = Some(object.trim().to_string());
        probe.form = record.form.clone().or(template.map(String::from));
        probe.alternatives.clone_from(alternatives);
        probe.aliases.clone_from(aliases);
        probes.push(probe);
    }
    if probes.is_empty() {
        return Err(Error::argument(format!(
            "no phrasing of the relation `{relation}` ends with [Y], so none can be asked"
        )));
    }
    Ok(probes)
}

/// The probe of any record but a fact.
fn probe(record: &Record, encoder: Option<&dyn Encoder>, options: &ReadOptions) -> Result<Probe> {
    let tokens = tokens(record, encoder, options)?;
    if let RecordKind::Text { .. } = record.kind {
        return Ok(split(record, ProbeKind::Text, tokens.checked(&record.origin, options.limits())?));
    }
    let mut probe = split(record, ProbeKind::Answer, tokens.checked(&record.origin, untruncated(options))?);
    (probe.question, probe.gold_text) = match &record.kind {
        RecordKind::Completion { prompt, completion } => (Some(prompt.clone()), Some(completion.trim().to_string())),
        RecordKind::Question { question, answer } => (Some(question.clone()), Some(answer.trim().to_string())),
        RecordKind::Messages { messages } => {
            let answer = messages.iter().rposition(|message| message.role == "assistant");
            let asked = messages[..answer.unwrap_or(0)].iter().rfind(|message| message.role == "user");
            let answer = answer.map(|turn| messages[turn].content.trim().to_string());
            (asked.map(|message| message.content.clone()), answer)
        }
        _ => match encoder {
            Some(encoder) => (
                Some(encoder.decode(&probe.prompt_ids, true)?),
                Some(encoder.decode(&probe.gold_ids, true)?.trim().into()),
            ),
            None => (None, None),
        },
    };
    Ok(probe)
}

/// The limits for an answer, which is never cut.
fn untruncated(options: &ReadOptions) -> Limits {
    Limits { truncate: false, ..options.limits() }
}

/// Splits checked tokens before their last run of targets; the first token is always given.
fn split(record: &Record, kind: ProbeKind, tokens: Tokens) -> Probe {
    let end = tokens.labels.iter().rposition(|&label| label != NOT_A_TARGET).map_or(1, |last| last + 1);
    let start =
        tokens.labels[..end].iter().rposition(|&label| label == NOT_A_TARGET).map_or(1, |given| given + 1).max(1);
    Probe {
        kind,
        prompt_ids: tokens.ids[..start].to_vec(),
        gold_ids: tokens.labels[start..end].iter().map(|&label| label as u32).collect(),
        gold_text: None,
        question: None,
        alternatives: Vec::new(),
        aliases: Vec::new(),
        form: record.form.clone(),
        origin: record.origin.clone(),
    }
}

#[cfg(test)]
#[path = "probes_tests.rs"]
mod tests;
