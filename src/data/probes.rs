//! Probes: questions with a gold answer, used only to evaluate.

use std::path::Path;
use std::sync::Arc;

use super::NOT_A_TARGET;
use super::encoder::Encoder;
use super::forms::{Body, Expression, FactKey, Refusal};
use super::records::{Origin, Record, RecordKind};
use super::relations::ends_with_object;
use super::sample::{InputFile, ReadOptions, Sample, digest, read_told};
use super::tokens::{Limits, Tokens, expression_tokens, needed, phrase_tokens, phrases, tokens};
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
    /// The wrong answers in place of the gold one, where the record's text can be written with them.
    pub wrong: Vec<Choice>,
    /// The answer in other words in place of the gold one.
    pub reworded: Option<Choice>,
    /// Other right answers (a fact's `aliases`).
    pub aliases: Vec<String>,
    /// The form that it is asked in, as [`Sample::form`].
    pub form: Option<String>,
    /// Template and wording of a form that it was made in.
    pub phrasing: Option<Arc<str>>,
    /// Which fact is asked for, if the record is one.
    pub fact: Option<FactKey>,
    /// The record that it was made from.
    pub origin: Origin,
}

/// Another answer to a probe: tokens that are given, and those of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// As [`Probe::prompt_ids`].
    pub prompt_ids: Vec<u32>,
    /// As [`Probe::gold_ids`].
    pub answer_ids: Vec<u32>,
}

impl Choice {
    /// As a sample whose targets are the answer.
    pub fn sample(&self, origin: &Origin) -> Sample {
        let Tokens { ids, labels } = Tokens::followed_by(&self.prompt_ids, &self.answer_ids);
        Sample { ids, labels, origin: origin.clone(), form: None, phrasing: None }
    }
}

impl Probe {
    /// The probe as a sample whose targets are the gold answer.
    pub fn sample(&self) -> Sample {
        let Tokens { ids, labels } = Tokens::followed_by(&self.prompt_ids, &self.gold_ids);
        Sample { ids, labels, origin: self.origin.clone(), form: self.form.clone(), phrasing: self.phrasing.clone() }
    }
}

/// The probes of one or more files, in the order of the files and of their lines.
#[derive(Debug, Clone)]
pub struct ProbeSet {
    /// The probes.
    pub probes: Vec<Probe>,
    /// The files that they come from.
    pub files: Vec<InputFile>,
    /// What was not made of the records, and why.
    pub refused: Vec<Refusal>,
    /// SHA-256, in hexadecimal, of files, options and tokens, as [`Dataset::sha256`](super::Dataset::sha256).
    pub sha256: String,
}

/// Reads files of JSON Lines as probes.
///
/// The gold answer is the last run of targets of the sample that the record would make, the prompt all that stands
/// before it (so of a conversation, the last turn of the assistant). A fact makes a probe for each phrasing that ends
/// with its object, apart from punctuation, and the prompt ends before it. With [`ReadOptions::forms`], facts, questions and
/// texts make a probe for each expression.
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
    let templates = options.templates();
    let known = |record: &Record, probes: Vec<Probe>| {
        let fact = FactKey::of(record, &templates);
        probes.into_iter().map(|probe| Probe { fact: fact.clone(), ..probe }).collect()
    };
    let own = |record: &Record| Ok(known(record, record_probes(record, encoder, options)?));
    let made = |record: &Record, expression: &Expression| {
        Ok(known(record, vec![expression_probe(record, expression, encoder, options)?]))
    };
    let (read, refused) = read_told(paths, options, &mut probes, own, made)?;
    let samples: Vec<_> = probes.iter().map(Probe::sample).collect();
    let sha256 = digest(&read.files, options, samples.iter().map(|sample| (&sample.ids[..], &sample.labels[..])));
    Ok(ProbeSet { probes, files: read.files, refused, sha256 })
}

fn record_probes(record: &Record, encoder: Option<&dyn Encoder>, options: &ReadOptions) -> Result<Vec<Probe>> {
    let RecordKind::Fact { subject, relation, object, alternatives, aliases, .. } = &record.kind else {
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

/// The probe of a record told in a form.
fn expression_probe(
    record: &Record,
    expression: &Expression,
    encoder: Option<&dyn Encoder>,
    options: &ReadOptions,
) -> Result<Probe> {
    let tokens = expression_tokens(expression, true, needed(encoder, record)?, options)?;
    let mut probe = split(record, ProbeKind::Answer, tokens.checked(&record.origin, untruncated(options))?);
    probe.question = Some(match &expression.body {
        Body::Text { text, target } => text[..target.start].trim_end().to_string(),
        Body::Chat { question, .. } => question.clone(),
    });
    if probe.question.as_deref() == Some("") {
        probe.kind = ProbeKind::Text;
    }
    probe.gold_text = Some(expression.answer().trim().to_string());
    probe.form = Some(expression.form.to_string());
    probe.phrasing = Some(expression.phrasing.clone());
    probe.alternatives.clone_from(&expression.alternatives);
    probe.aliases.clone_from(&expression.aliases);
    let reworded = match &record.kind {
        RecordKind::Question { paraphrase, answer, .. } if expression.answer() == answer.trim() => {
            paraphrase.as_deref()
        }
        _ => None,
    };
    let with = |answer: &str| choice(record, &expression.with_answer(answer), encoder, options);
    probe.wrong = expression.alternatives.iter().map(|answer| with(answer)).collect::<Result<_>>()?;
    probe.reworded = reworded.map(with).transpose()?;
    Ok(probe)
}

/// Another answer in an expression.
fn choice(
    record: &Record,
    expression: &Expression,
    encoder: Option<&dyn Encoder>,
    options: &ReadOptions,
) -> Result<Choice> {
    let tokens = expression_tokens(expression, true, needed(encoder, record)?, options)?;
    let probe = split(record, ProbeKind::Answer, tokens.checked(&record.origin, untruncated(options))?);
    Ok(Choice { prompt_ids: probe.prompt_ids, answer_ids: probe.gold_ids })
}

/// The probe of any record but a fact.
fn probe(record: &Record, encoder: Option<&dyn Encoder>, options: &ReadOptions) -> Result<Probe> {
    let own = tokens(record, encoder, options)?;
    if let RecordKind::Text { .. } = record.kind {
        return Ok(split(record, ProbeKind::Text, own.checked(&record.origin, options.limits())?));
    }
    let mut probe = split(record, ProbeKind::Answer, own.checked(&record.origin, untruncated(options))?);
    (probe.question, probe.gold_text) = match &record.kind {
        RecordKind::Completion { prompt, completion } => (Some(prompt.clone()), Some(completion.trim().to_string())),
        RecordKind::Question { question, answer, alternatives, aliases, paraphrase } => {
            probe.alternatives.clone_from(alternatives);
            probe.aliases.clone_from(aliases);
            let with = |answer: &String| {
                let other = RecordKind::Question {
                    question: question.clone(),
                    answer: answer.clone(),
                    alternatives: Vec::new(),
                    aliases: Vec::new(),
                    paraphrase: None,
                };
                let tokens = tokens(&Record { kind: other, ..record.clone() }, encoder, options)?;
                let other = split(record, ProbeKind::Answer, tokens.checked(&record.origin, untruncated(options))?);
                Ok::<_, Error>(Choice { prompt_ids: other.prompt_ids, answer_ids: other.gold_ids })
            };
            probe.wrong = alternatives.iter().map(with).collect::<Result<_>>()?;
            probe.reworded = paraphrase.as_ref().map(with).transpose()?;
            (Some(question.clone()), Some(answer.trim().to_string()))
        }
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
        phrasing: None,
        fact: None,
        wrong: Vec::new(),
        reworded: None,
        origin: record.origin.clone(),
    }
}

#[cfg(test)]
#[path = "probes_tests.rs"]
mod tests;
