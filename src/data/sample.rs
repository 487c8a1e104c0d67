//! Samples, the unit that has a gradient, and the data set that files of records make.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::encoder::Encoder;
use super::forms::{Checked, Expression, Forms, Refusal, Templates, expand, is_told};
use super::records::{Origin, Record, RecordKind, Records, no_records};
use super::relations::Relations;
use super::tokens::{Limits, Tokens, check_qa_template, expression_tokens, needed, phrase_tokens, phrases, tokens};
use crate::{Error, Result};

/// The label of a position that is not a target (Hugging Face's convention).
pub const NOT_A_TARGET: i32 = -100;

/// One token sequence with its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Token ids, `[tokens]`, at least 2.
    pub ids: Vec<u32>,
    /// One label for each id, `[tokens]`: [`NOT_A_TARGET`] or a token id. The model shifts: position t predicts
    /// `labels[t + 1]`.
    pub labels: Vec<i32>,
    /// The record that it was made from.
    pub origin: Origin,
    /// The form that it is told in: the record's own, or the one that it was made in; of a fact without either, the phrasing.
    pub form: Option<String>,
    /// Template and wording of a form that it was made in.
    pub phrasing: Option<Arc<str>>,
}

impl Sample {
    /// How many positions have a target after the shift.
    pub fn targets(&self) -> usize {
        self.labels.iter().skip(1).filter(|&&label| label != NOT_A_TARGET).count()
    }
}

/// How records become tokens.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The number of token ids that the model knows.
    pub vocab_size: usize,
    /// The most tokens that a sample may have.
    pub context: usize,
    /// Cut longer samples at the end instead of refusing them.
    pub truncate: bool,
    /// Add the end token to a completion, and to an answer that is not written by a chat template.
    pub eos: bool,
    /// How a question and its answer are written, with `{question}` and `{answer}`, instead of the chat template.
    pub qa_template: Option<String>,
    /// The system turn before a question that the chat template writes.
    pub system: Option<String>,
    /// The phrasings of facts.
    pub relations: Relations,
    /// The forms that facts, questions and texts are told in; none: each record in its own.
    pub forms: Option<Forms>,
}

impl ReadOptions {
    /// Options for a model with a vocabulary of `vocab_size` and a context of `context` tokens.
    pub fn new(vocab_size: usize, context: usize) -> Self {
        ReadOptions { vocab_size, context, ..Default::default() }
    }

    /// The templates that say what relations are like.
    pub(super) fn templates(&self) -> Arc<Templates> {
        self.forms.as_ref().map_or_else(Templates::builtin, |forms| forms.templates.clone())
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { vocabulary: self.vocab_size, context: self.context, truncate: self.truncate }
    }

    fn digest(&self) -> Vec<u8> {
        let phrasings: BTreeMap<_, _> = self.relations.iter().collect();
        let mut settings = json!({
            "vocab_size": self.vocab_size, "context": self.context, "truncate": self.truncate, "eos": self.eos,
            "qa_template": self.qa_template, "system": self.system, "relations": phrasings,
        });
        if let Some(forms) = &self.forms {
            settings["forms"] = forms.describe();
        }
        settings.to_string().into_bytes()
    }
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Its path as given.
    pub path: PathBuf,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// How many records it has.
    pub records: usize,
}

/// The samples of one or more files, in the order of the files and of their lines.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The samples.
    pub samples: Vec<Sample>,
    /// The files that they come from.
    pub files: Vec<InputFile>,
    /// How many records there are of each kind.
    pub kinds: BTreeMap<&'static str, usize>,
    /// The facts, as they are held against those of other sets.
    pub facts: Checked,
    /// What was not made of the records, and why.
    pub refused: Vec<Refusal>,
    /// SHA-256, in hexadecimal, of the files' bytes, the options, and the ids and labels that came out (by which the
    /// tokenizer and chat template count as well).
    pub sha256: String,
}

impl Dataset {
    /// The number of tokens of all samples.
    pub fn tokens(&self) -> usize {
        self.samples.iter().map(|sample| sample.ids.len()).sum()
    }

    /// The number of targets of all samples, after the shift.
    pub fn targets(&self) -> usize {
        self.samples.iter().map(Sample::targets).sum()
    }

    /// The length of the longest sample in tokens.
    pub fn longest(&self) -> usize {
        self.samples.iter().map(|sample| sample.ids.len()).max().unwrap_or(0)
    }
}

/// Reads files of JSON Lines as samples. A fact makes a sample for each phrasing, every other record one; with
/// [`ReadOptions::forms`], facts, questions and texts make one for each expression.
///
/// `encoder` may be missing when all records are `input_ids`+`labels`.
///
/// # Errors
/// Names file, line and what is wrong: whatever [`read_records`](super::read_records) refuses; a record that needs a
/// tokenizer when there is none; fewer than 2 tokens; a token or label outside the vocabulary; more tokens than the
/// context holds, unless `truncate`; no target after the shift; a chat template that fails or is not prefix-stable.
pub fn read_dataset(
    paths: &[impl AsRef<Path>],
    encoder: Option<&dyn Encoder>,
    options: &ReadOptions,
) -> Result<Dataset> {
    let mut samples = Vec::new();
    let own = |record: &Record| record_samples(record, encoder, options);
    let made = |record: &Record, expression: &Expression| Ok(vec![told_sample(record, expression, encoder, options)?]);
    let (read, refused) = read_told(paths, options, &mut samples, own, made)?;
    let sha256 = digest(&read.files, options, samples.iter().map(|sample| (&sample.ids[..], &sample.labels[..])));
    Ok(Dataset { samples, files: read.files, kinds: read.kinds, facts: read.facts, refused, sha256 })
}

/// The samples of one record, of which nothing is read: those of [`read_dataset`], as if it stood alone in its file.
///
/// # Errors
/// As [`read_dataset`].
pub fn samples_of(record: &Record, encoder: &dyn Encoder, options: &ReadOptions) -> Result<Vec<Sample>> {
    let blamed = |error| record.origin.blame(error);
    let Some(forms) = options.forms.as_ref().filter(|_| is_told(record)) else {
        return record_samples(record, Some(encoder), options).map_err(blamed);
    };
    let (told, _) = expand(std::slice::from_ref(record), forms)?;
    let told = told.iter().flatten().map(|expression| told_sample(record, expression, Some(encoder), options));
    told.collect::<Result<_>>().map_err(blamed)
}

fn told_sample(
    record: &Record,
    expression: &Expression,
    encoder: Option<&dyn Encoder>,
    options: &ReadOptions,
) -> Result<Sample> {
    let tokens = expression_tokens(expression, false, needed(encoder, record)?, options)?;
    let Tokens { ids, labels } = tokens.checked(&record.origin, options.limits())?;
    let (form, phrasing) = (Some(expression.form.to_string()), Some(expression.phrasing.clone()));
    Ok(Sample { ids, labels, origin: record.origin.clone(), form, phrasing })
}

/// Reads files and adds what each record, or each of its expressions, makes to `out`; returns what was refused too.
pub(super) fn read_told<T>(
    paths: &[impl AsRef<Path>],
    options: &ReadOptions,
    out: &mut Vec<T>,
    own: impl Fn(&Record) -> Result<Vec<T>>,
    made: impl Fn(&Record, &Expression) -> Result<Vec<T>>,
) -> Result<(ReadFiles, Vec<Refusal>)> {
    let blamed = |record: &Record, result: Result<Vec<T>>| result.map_err(|error| record.origin.blame(error));
    let Some(forms) = &options.forms else {
        let read = read_files(paths, options, |record| {
            out.extend(blamed(record, own(record))?);
            Ok(())
        })?;
        return Ok((read, Vec::new()));
    };
    let mut records = Vec::new();
    let read = read_files(paths, options, |record| {
        records.push(record.clone());
        Ok(())
    })?;
    let (told, mut refused) = expand(&records, forms)?;
    for (record, expressions) in records.iter().zip(&told) {
        if !is_told(record) {
            out.extend(blamed(record, own(record))?);
        }
        for expression in expressions {
            match made(record, expression) {
                Ok(items) => out.extend(items),
                // A form that is too long for the model, say, leaves the others as they are.
                Err(error @ Error::File { .. }) => {
                    let form = Some(expression.form.clone());
                    refused.push(Refusal { origin: record.origin.clone(), form, reason: reason(error) });
                }
                Err(error) => return Err(record.origin.blame(error)),
            }
        }
    }
    if out.is_empty() {
        let reason = refused.first().map_or("there are no records", |refusal| refusal.reason.as_str());
        return Err(Error::file(paths[0].as_ref(), "", format!("no record can be told in the chosen forms: {reason}")));
    }
    Ok((read, refused))
}

/// What is wrong, without the place, which a refusal names.
pub(super) fn reason(error: Error) -> String {
    match error {
        Error::File { problem, .. } => problem,
        other => other.to_string(),
    }
}

pub(super) fn record_samples(
    record: &Record,
    encoder: Option<&dyn Encoder>,
    options: &ReadOptions,
) -> Result<Vec<Sample>> {
    let sample = |tokens: Tokens, form: Option<String>| {
        let Tokens { ids, labels } = tokens.checked(&record.origin, options.limits())?;
        Ok(Sample { ids, labels, origin: record.origin.clone(), form, phrasing: None })
    };
    let RecordKind::Fact { subject, relation, object, .. } = &record.kind else {
        return Ok(vec![sample(tokens(record, encoder, options)?, record.form.clone())?]);
    };
    let encoder = needed(encoder, record)?;
    let phrases = phrases(subject, relation, object, &options.relations)?.into_iter();
    phrases
        .map(|(template, phrase)| {
            let form = record.form.clone().or(template.map(String::from));
            sample(phrase_tokens(&phrase, encoder)?, form)
        })
        .collect()
}

/// What reading files tells beside their records.
pub(super) struct ReadFiles {
    pub(super) files: Vec<InputFile>,
    pub(super) kinds: BTreeMap<&'static str, usize>,
    pub(super) facts: Checked,
}

/// Streams the records of `paths` through `take`, after checking the options.
pub(super) fn read_files(
    paths: &[impl AsRef<Path>],
    options: &ReadOptions,
    mut take: impl FnMut(&Record) -> Result<()>,
) -> Result<ReadFiles> {
    if paths.is_empty() {
        return Err(Error::argument("no file of records was given"));
    }
    options.qa_template.as_deref().map_or(Ok(()), check_qa_template)?;
    let facts = Checked::new(options.templates());
    let mut read = ReadFiles { files: Vec::new(), kinds: BTreeMap::new(), facts };
    for path in paths {
        let mut reader = Records::open(path)?;
        let mut records = 0;
        for record in &mut reader {
            let record = record?;
            read.facts.see(&record)?;
            take(&record)?;
            *read.kinds.entry(record.kind.name()).or_default() += 1;
            records += 1;
        }
        if records == 0 {
            return Err(no_records(path.as_ref()));
        }
        read.files.push(InputFile { path: path.as_ref().to_path_buf(), sha256: hex(&reader.sha256()), records });
    }
    read.facts.finish()?;
    Ok(read)
}

/// The hash that stands for a data set: see [`Dataset::sha256`].
pub(super) fn digest<'a>(
    files: &[InputFile],
    options: &ReadOptions,
    samples: impl Iterator<Item = (&'a [u32], &'a [i32])>,
) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&options.digest());
    for file in files {
        part(file.sha256.as_bytes());
    }
    for (ids, labels) in samples {
        part(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>());
        part(&labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<_>>());
    }
    hex(&hash.finalize())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
