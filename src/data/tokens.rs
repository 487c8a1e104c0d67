//! A record to token ids, and which of them are targets.

use std::ops::Range;

use super::encoder::{Encoded, Encoder, Message, Special};
use super::forms::{Body, Expression};
use super::phrase::Phrase;
use super::records::{Origin, Record, RecordKind};
use super::relations::{Relations, phrase};
use super::sample::{NOT_A_TARGET, ReadOptions};
use crate::{Error, Result};

/// How a question and its answer are written for a checkpoint without a chat template.
pub(super) const PLAIN_QUESTION: &str = "Question: {question}\nAnswer: {answer}";
pub(super) const QUESTION_SLOT: &str = "{question}";
pub(super) const ANSWER_SLOT: &str = "{answer}";

/// Token ids with their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) ids: Vec<u32>,
    pub(super) labels: Vec<i32>,
}

/// What the model can take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) vocabulary: usize,
    pub(super) context: usize,
    /// Cut what is longer than the context.
    pub(super) truncate: bool,
}

impl Tokens {
    /// `given` followed by `targets`.
    pub(super) fn followed_by(given: &[u32], targets: &[u32]) -> Self {
        let mut tokens = Tokens { ids: given.to_vec(), labels: vec![NOT_A_TARGET; given.len()] };
        targets.iter().for_each(|&id| tokens.push_target(id));
        tokens
    }

    /// The tokens of an encoded text; targets are those that hold a byte of one of `targets`.
    fn of_spans(encoded: Encoded, targets: &[Range<usize>]) -> Self {
        let is_target =
            |&(start, end): &(usize, usize)| targets.iter().any(|range| start < range.end && end > range.start);
        let label = |(&id, bytes): (&u32, _)| if is_target(bytes) { id as i32 } else { NOT_A_TARGET };
        let labels = encoded.ids.iter().zip(&encoded.bytes).map(label).collect();
        Tokens { ids: encoded.ids, labels }
    }

    fn push_target(&mut self, id: u32) {
        self.ids.push(id);
        self.labels.push(id as i32);
    }

    /// How many positions predict a target: the first token is never predicted.
    pub(super) fn targets(&self) -> usize {
        self.labels.iter().skip(1).filter(|&&label| label != NOT_A_TARGET).count()
    }

    /// Checks that the model can take the tokens, cutting them at the context's end if that is allowed.
    pub(super) fn checked(mut self, origin: &Origin, limits: Limits) -> Result<Self> {
        let Limits { vocabulary, context, truncate } = limits;
        let length = self.ids.len();
        if length < 2 {
            let problem = format!("the sample has {length} token; 2 are needed, because the first is never predicted");
            return Err(origin.error(problem));
        }
        let outside = |id: i64| id < 0 || id as u64 >= vocabulary as u64;
        if let Some((at, id)) = self.ids.iter().enumerate().find(|&(_, &id)| outside(id.into())) {
            let problem = format!("token {at} is {id}, outside the model's vocabulary of {vocabulary}");
            return Err(origin.error(problem));
        }
        let wrong = |&(_, &label): &(usize, &i32)| label != NOT_A_TARGET && outside(label.into());
        if let Some((at, label)) = self.labels.iter().enumerate().find(wrong) {
            let problem = format!("label {at} is {label}: neither -100 nor in the model's vocabulary of {vocabulary}");
            return Err(origin.error(problem));
        }
        if length > context && !truncate {
            let problem = format!(
                "the sample has {length} tokens and the model's context is {context}: shorten it, or truncate samples"
            );
            return Err(origin.error(problem));
        }
        self.ids.truncate(context);
        self.labels.truncate(context);
        if self.targets() == 0 {
            let place = if length > context { "within the model's context" } else { "after the first token" };
            return Err(origin.error(format!("the sample has no target {place}")));
        }
        Ok(self)
    }
}

/// The tokens of a record of any kind but a fact, which has a phrase for each phrasing.
pub(super) fn tokens(record: &Record, encoder: Option<&dyn Encoder>, options: &ReadOptions) -> Result<Tokens> {
    match &record.kind {
        RecordKind::Tokens { ids, labels } => given(ids, labels, &record.origin),
        RecordKind::Text { text } => {
            let ids = needed(encoder, record)?.encode(text, Special::All)?.ids;
            Ok(Tokens::followed_by(&[], &ids))
        }
        RecordKind::Completion { prompt, completion } => {
            let encoder = needed(encoder, record)?;
            let given = encoder.encode(prompt, Special::Leading)?.ids;
            let mut tokens = Tokens::followed_by(&given, &encoder.encode(completion, Special::None)?.ids);
            end(&mut tokens, encoder, options)?;
            Ok(tokens)
        }
        RecordKind::Question { question, answer, .. } => {
            question_tokens(question, answer, needed(encoder, record)?, options)
        }
        RecordKind::Messages { messages } => chat_tokens(messages, needed(encoder, record)?),
        RecordKind::Fact { .. } => Err(Error::argument("a fact has a phrase for each phrasing of its relation")),
    }
}

/// The encoder, or why this record needs one.
pub(super) fn needed<'e>(encoder: Option<&'e dyn Encoder>, record: &Record) -> Result<&'e dyn Encoder> {
    const MISSING: &str = if cfg!(feature = "text") {
        "needs the checkpoint's tokenizer.json, which is missing"
    } else {
        "needs a tokenizer, which this build lacks (cargo feature `text`)"
    };
    let missing = || {
        let problem = format!("a record of the kind `{}` {MISSING}; or give `input_ids`+`labels`", record.kind.name());
        record.origin.error(problem)
    };
    encoder.ok_or_else(missing)
}

fn given(ids: &[u32], labels: &[i64], origin: &Origin) -> Result<Tokens> {
    let label = |(at, &label): (usize, &i64)| {
        i32::try_from(label).map_err(|_| origin.error(format!("label {at} is {label}: neither -100 nor a token id")))
    };
    Ok(Tokens { ids: ids.to_vec(), labels: labels.iter().enumerate().map(label).collect::<Result<_>>()? })
}

/// Adds the end token as a target, if `options` ask for it.
fn end(tokens: &mut Tokens, encoder: &dyn Encoder, options: &ReadOptions) -> Result<()> {
    if options.eos {
        let missing = || Error::argument("the end token was asked for, but the tokenizer names none");
        tokens.push_target(encoder.end_token().ok_or_else(missing)?);
    }
    Ok(())
}

fn question_tokens(question: &str, answer: &str, encoder: &dyn Encoder, options: &ReadOptions) -> Result<Tokens> {
    if options.qa_template.is_none() && encoder.has_chat_template() {
        let system = options.system.iter().map(|text| Message::new("system", text));
        let turns = [Message::new("user", question), Message::new("assistant", answer)];
        return chat_tokens(&system.chain(turns).collect::<Vec<_>>(), encoder);
    }
    let template = options.qa_template.as_deref().unwrap_or(PLAIN_QUESTION);
    let phrase = Phrase::fill(template, (QUESTION_SLOT, question), (ANSWER_SLOT, answer));
    let mut tokens = phrase_tokens(&phrase, encoder)?;
    end(&mut tokens, encoder, options)?;
    Ok(tokens)
}

/// Refuses a template for questions that does not have each slot once.
pub(super) fn check_qa_template(template: &str) -> Result<()> {
    for slot in [QUESTION_SLOT, ANSWER_SLOT] {
        let times = template.matches(slot).count();
        if times != 1 {
            let problem = format!("the template `{template}` has {slot} {times} times; it must stand there once");
            return Err(Error::argument(problem));
        }
    }
    Ok(())
}

/// The tokens of a phrase, encoded as one text; the target's are the targets.
pub(super) fn phrase_tokens(phrase: &Phrase, encoder: &dyn Encoder) -> Result<Tokens> {
    let encoded = encoder.encode(&phrase.text, Special::Leading)?;
    Ok(Tokens::of_spans(encoded, std::slice::from_ref(&phrase.target)))
}

/// The tokens of a conversation, encoded as one text without further special tokens (the template writes them).
///
/// A turn of the assistant is what the template adds to the conversation before it with the header of a turn to come.
/// White space at its end separates it from what follows and is no target; the end token before it is.
fn chat_tokens(messages: &[Message], encoder: &dyn Encoder) -> Result<Tokens> {
    let whole = encoder.render_chat(messages, false)?;
    let mut targets = Vec::new();
    for turn in (0..messages.len()).filter(|&turn| messages[turn].role == "assistant") {
        let before = encoder.render_chat(&messages[..turn], true)?;
        let through = encoder.render_chat(&messages[..=turn], false)?;
        if !through.starts_with(&before) || !whole.starts_with(&through) {
            let name = encoder.chat_template_name();
            return Err(Error::argument(format!(
                "the chat template ({name}) is not prefix-stable: what it writes before turn {} changes with what \
                 follows, so the assistant's tokens cannot be told apart; use `prompt`+`completion` or a question \
                 template",
                turn + 1
            )));
        }
        targets.push(before.len()..through.trim_end().len());
    }
    Ok(Tokens::of_spans(encoder.encode(&whole, Special::None)?, &targets))
}

/// The tokens of an expression; `for_probe`: nothing follows the target.
pub(super) fn expression_tokens(
    expression: &Expression,
    for_probe: bool,
    encoder: &dyn Encoder,
    options: &ReadOptions,
) -> Result<Tokens> {
    match &expression.body {
        Body::Chat { question, answer } => question_tokens(question, answer, encoder, options),
        Body::Text { text, target } => {
            let phrase = Phrase { text: text.clone(), target: target.clone() };
            let ends = phrase.target.end == phrase.text.len();
            let phrase = if for_probe { phrase.cut_after_target() } else { phrase };
            let mut tokens = phrase_tokens(&phrase, encoder)?;
            if ends {
                end(&mut tokens, encoder, options)?;
            }
            Ok(tokens)
        }
    }
}

/// The phrases of a fact, each with its template (none where subject, relation and object stand in a row).
pub(super) fn phrases<'r>(
    subject: &str,
    relation: &str,
    object: &str,
    relations: &'r Relations,
) -> Result<Vec<(Option<&'r str>, Phrase)>> {
    if relations.is_empty() {
        let start = subject.len() + relation.len() + 2;
        let text = format!("{subject} {relation} {object}");
        return Ok(vec![(None, Phrase { target: start..text.len(), text })]);
    }
    let phrases = relations.of(relation)?.into_iter().map(|text| (Some(text), phrase(text, subject, object)));
    Ok(phrases.collect())
}
