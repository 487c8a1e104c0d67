//! What was understood of files: the samples as the model will see them, and everything that is wrong. Where other commands stop
//! at the first wrong line, this goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::NOT_A_TARGET;
use super::encoder::Encoder;
use super::forms::{Body, Checked, Expression, Refusal, expand, is_told};
use super::phrase::Phrase;
use super::records::{Origin, Record, RecordKind, Records, no_records};
use super::sample::{ReadOptions, Sample, reason, record_samples};
use super::tokens::{
    ANSWER_SLOT, PLAIN_QUESTION, QUESTION_SLOT, Tokens, check_qa_template, expression_tokens, needed, phrases,
};
use crate::{Error, Result};

/// What was understood of one or more files.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The files.
    pub files: Vec<SurveyedFile>,
    /// What a model would be shown, in the order of files and lines.
    pub samples: Vec<Shown>,
    /// Lines that other commands refuse.
    pub wrong: Vec<Refusal>,
    /// What was not made of a record in a form, and why; other commands go on without it.
    pub refused: Vec<Refusal>,
}

/// A file, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedFile {
    /// Its path as given.
    pub path: PathBuf,
    /// How many records of each kind it has.
    pub kinds: BTreeMap<&'static str, usize>,
}

/// A sample as a person can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The record that it was made from.
    pub origin: Origin,
    /// The record's kind.
    pub kind: &'static str,
    /// Its form, as [`Sample::form`].
    pub form: Option<String>,
    /// Template and wording of a form that it was made in.
    pub phrasing: Option<Arc<str>>,
    /// The text, in parts that are targets or not.
    pub parts: Vec<Part>,
    /// How many tokens it has, and how many are targets; none without a tokenizer.
    pub tokens: Option<(usize, usize)>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The text; of tokens without a tokenizer, their numbers.
    pub text: String,
    /// Whether it is to be predicted.
    pub target: bool,
}

/// Reads files and tells what was understood. With `encoder`, the samples are those that the model will see; without one, the
/// texts are shown as they would be handed to a tokenizer, chat templates as turns.
///
/// # Errors
/// If a file cannot be read or an option is wrong. What is wrong with a line is in [`Survey::wrong`].
pub fn survey(paths: &[impl AsRef<Path>], encoder: Option<&dyn Encoder>, options: &ReadOptions) -> Result<Survey> {
    options.qa_template.as_deref().map_or(Ok(()), check_qa_template)?;
    let mut survey = Survey { files: Vec::new(), samples: Vec::new(), wrong: Vec::new(), refused: Vec::new() };
    let mut facts = Checked::new(options.templates());
    let mut records = Vec::new();
    for path in paths {
        let found = survey.read(path.as_ref(), &mut facts)?;
        records.extend(found);
    }
    for error in facts.aliases_of_others() {
        survey.wrong_line(error)?;
    }
    let told = match &options.forms {
        Some(forms) => {
            let (told, refused) = expand(&records, forms)?;
            survey.refused = refused;
            told
        }
        None => vec![Vec::new(); records.len()],
    };
    for (record, expressions) in records.iter().zip(&told) {
        if options.forms.is_none() || !is_told(record) {
            match own(record, encoder, options) {
                Ok(shown) => survey.samples.extend(shown),
                Err(error) => survey.wrong_line(record.origin.blame(error))?,
            }
        }
        for expression in expressions {
            match made(record, expression, encoder, options) {
                Ok(shown) => survey.samples.push(shown),
                Err(error) if error.is_input() => {
                    let form = Some(expression.form.clone());
                    survey.refused.push(Refusal { origin: record.origin.clone(), form, reason: reason(error) });
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(survey)
}

impl Survey {
    /// The records of a file that are right by themselves and beside the earlier ones.
    fn read(&mut self, path: &Path, facts: &mut Checked) -> Result<Vec<Record>> {
        let mut reader = Records::open(path)?;
        let (mut records, mut kinds, mut lines) = (Vec::new(), BTreeMap::new(), 0);
        while let Some(record) = reader.next() {
            lines += 1;
            let seen = record.and_then(|record| facts.see(&record).map(|()| record));
            match seen {
                Ok(record) => {
                    *kinds.entry(record.kind.name()).or_default() += 1;
                    records.push(record);
                }
                Err(error) => {
                    self.wrong_line(error)?;
                    reader.go_on();
                }
            }
        }
        if lines == 0 {
            return Err(no_records(path));
        }
        self.files.push(SurveyedFile { path: path.to_path_buf(), kinds });
        Ok(records)
    }

    /// Notes an error about a line; any other one is passed on.
    fn wrong_line(&mut self, error: Error) -> Result<()> {
        let Error::File { path, place, problem } = &error else { return Err(error) };
        let Some(line) = place.strip_prefix("line ").and_then(|line| line.parse().ok()) else { return Err(error) };
        let origin = Origin { path: path.as_path().into(), line };
        self.wrong.push(Refusal { origin, form: None, reason: problem.clone() });
        Ok(())
    }
}

/// A record as it is.
fn own(record: &Record, encoder: Option<&dyn Encoder>, options: &ReadOptions) -> Result<Vec<Shown>> {
    if let Some(encoder) = encoder {
        let samples = record_samples(record, Some(encoder), options)?;
        return samples.iter().map(|sample| shown(record, sample, encoder)).collect();
    }
    let one = |form: Option<&str>, parts: Vec<Part>| Shown {
        origin: record.origin.clone(),
        kind: record.kind.name(),
        form: record.form.clone().or(form.map(String::from)),
        phrasing: None,
        parts,
        tokens: None,
    };
    Ok(match &record.kind {
        RecordKind::Tokens { ids, labels } => {
            let flags = labels.iter().map(|&label| label != i64::from(NOT_A_TARGET));
            let runs = runs(ids.iter().copied().zip(flags));
            let text = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ") + " ";
            vec![one(None, runs.iter().map(|(ids, target)| part(&text(ids), *target)).collect())]
        }
        RecordKind::Text { text } => vec![one(None, vec![part(text, true)])],
        RecordKind::Completion { prompt, completion } => {
            vec![one(None, vec![part(prompt, false), part(completion, true)])]
        }
        RecordKind::Question { question, answer, .. } => {
            vec![one(None, question_parts(question, answer, options))]
        }
        RecordKind::Messages { messages } => {
            let turns = messages.iter().flat_map(|message| {
                let target = message.role == "assistant";
                [part(&format!("<{}> ", message.role), false), part(&format!("{}\n", message.content), target)]
            });
            vec![one(None, turns.collect())]
        }
        RecordKind::Fact { subject, relation, object, .. } => phrases(subject, relation, object, &options.relations)?
            .iter()
            .map(|(template, phrase)| one(*template, phrase_parts(phrase)))
            .collect(),
    })
}

/// A record told in a form.
fn made(
    record: &Record,
    expression: &Expression,
    encoder: Option<&dyn Encoder>,
    options: &ReadOptions,
) -> Result<Shown> {
    let (form, phrasing) = (Some(expression.form.to_string()), Some(expression.phrasing.clone()));
    let origin = record.origin.clone();
    if encoder.is_some() {
        let encoder = needed(encoder, record)?;
        let Tokens { ids, labels } =
            expression_tokens(expression, false, encoder, options)?.checked(&origin, options.limits())?;
        return shown(record, &Sample { ids, labels, origin, form, phrasing }, encoder);
    }
    let parts = match &expression.body {
        Body::Text { text, target } => phrase_parts(&Phrase { text: text.clone(), target: target.clone() }),
        Body::Chat { question, answer } => question_parts(question, answer, options),
    };
    Ok(Shown { origin, kind: record.kind.name(), form, phrasing, parts, tokens: None })
}

/// A sample, its tokens decoded.
fn shown(record: &Record, sample: &Sample, encoder: &dyn Encoder) -> Result<Shown> {
    let flags = sample.labels.iter().enumerate().map(|(at, &label)| at > 0 && label != NOT_A_TARGET);
    let decoded = |(ids, target): (Vec<u32>, bool)| Ok(Part { text: encoder.decode(&ids, false)?, target });
    let runs = runs(sample.ids.iter().copied().zip(flags));
    Ok(Shown {
        origin: sample.origin.clone(),
        kind: record.kind.name(),
        form: sample.form.clone(),
        phrasing: sample.phrasing.clone(),
        parts: runs.into_iter().map(decoded).collect::<Result<_>>()?,
        tokens: Some((sample.ids.len(), sample.targets())),
    })
}

/// Tokens in runs of targets and of others.
fn runs(tokens: impl Iterator<Item = (u32, bool)>) -> Vec<(Vec<u32>, bool)> {
    let mut runs: Vec<(Vec<u32>, bool)> = Vec::new();
    for (id, target) in tokens {
        match runs.last_mut() {
            Some((ids, same)) if *same == target => ids.push(id),
            _ => runs.push((vec![id], target)),
        }
    }
    runs
}

fn part(text: &str, target: bool) -> Part {
    Part { text: text.to_string(), target }
}

fn phrase_parts(phrase: &Phrase) -> Vec<Part> {
    let Phrase { text, target } = phrase;
    let parts =
        [part(&text[..target.start], false), part(&text[target.clone()], true), part(&text[target.end..], false)];
    parts.into_iter().filter(|part| !part.text.is_empty()).collect()
}

fn question_parts(question: &str, answer: &str, options: &ReadOptions) -> Vec<Part> {
    let template = options.qa_template.as_deref().unwrap_or(PLAIN_QUESTION);
    phrase_parts(&Phrase::fill(template, (QUESTION_SLOT, question), (ANSWER_SLOT, answer)))
}
