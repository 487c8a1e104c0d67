//! JSON Lines to records: which keys make which kind, and everything that can be wrong with a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::encoder::Message;
use super::json;
use crate::{Error, Result};

/// What a part of a line gives, or what is wrong with it.
type Parsed<T> = std::result::Result<T, String>;

/// The longest line that is read, in bytes: far above any context, far below memory.
const LONGEST_LINE: u64 = 64 << 20;

/// A file and a line in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The input file.
    pub path: Arc<Path>,
    /// The line, counted from 1.
    pub line: usize,
}

impl Origin {
    /// An error about this line.
    pub fn error(&self, problem: impl Into<String>) -> Error {
        Error::file(&self.path, format!("line {}", self.line), problem)
    }

    /// `error` told as an error about this line, unless it is one or the fault is not the input's.
    pub(super) fn blame(&self, error: Error) -> Error {
        match error {
            Error::File { ref path, .. } if **path == *self.path => error,
            error if error.is_input() => self.error(error.to_string()),
            error => error,
        }
    }
}

/// One entry of an input file, as read.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What the record says.
    pub kind: RecordKind,
    /// The label of its form (the key `form`), by which results are grouped.
    pub form: Option<String>,
    /// Where it stands.
    pub origin: Origin,
}

/// The kinds of records, by their keys.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordKind {
    /// `input_ids` and `labels`: tokens and targets as they are.
    Tokens {
        /// Token ids.
        ids: Vec<u32>,
        /// One label for each id; -100 is not a target.
        labels: Vec<i64>,
    },
    /// `text`: plain text, all of it a target.
    Text {
        /// The text.
        text: String,
    },
    /// `prompt` and `completion`.
    Completion {
        /// What is given.
        prompt: String,
        /// What is to follow, with nothing between.
        completion: String,
    },
    /// `question` and `answer`.
    Question {
        /// What is asked.
        question: String,
        /// The gold answer.
        answer: String,
        /// Wrong answers of the same kind (`alternatives`, or TOFU's `perturbed_answer`).
        alternatives: Vec<String>,
        /// Other right answers.
        aliases: Vec<String>,
        /// The answer in other words (TOFU's `paraphrased_answer`), which its truth ratio needs.
        paraphrase: Option<String>,
    },
    /// `messages`: a conversation.
    Messages {
        /// The turns in order; at least one is the assistant's.
        messages: Vec<Message>,
    },
    /// `subject`, `relation` and `object`: a fact apart from its wording.
    Fact {
        /// What the fact is about.
        subject: String,
        /// The relation's name, looked up among the phrasings if there are any.
        relation: String,
        /// The right object.
        object: String,
        /// Wrong objects of the same kind.
        alternatives: Vec<String>,
        /// Other right names of the object.
        aliases: Vec<String>,
        /// Other names of the subject.
        subject_aliases: Vec<String>,
    },
}

/// The sets of keys that make a record, in the order in which messages list them.
const KINDS: [(&str, &[&str]); 6] = [
    ("tokens", &["input_ids", "labels"]),
    ("text", &["text"]),
    ("completion", &["prompt", "completion"]),
    ("question", &["question", "answer"]),
    ("messages", &["messages"]),
    ("fact", &["subject", "relation", "object"]),
];

impl RecordKind {
    /// The kind's name, as [`Dataset::kinds`](super::Dataset::kinds) counts it.
    pub fn name(&self) -> &'static str {
        match self {
            RecordKind::Tokens { .. } => "tokens",
            RecordKind::Text { .. } => "text",
            RecordKind::Completion { .. } => "completion",
            RecordKind::Question { .. } => "question",
            RecordKind::Messages { .. } => "messages",
            RecordKind::Fact { .. } => "fact",
        }
    }

    fn from_object(object: &Map<String, Value>) -> Parsed<Self> {
        match kind_of(object)? {
            "tokens" => tokens(object),
            "text" => Ok(RecordKind::Text { text: string(object, "text")? }),
            "completion" => Ok(RecordKind::Completion {
                prompt: string(object, "prompt")?,
                completion: string(object, "completion")?,
            }),
            "question" => {
                let wrong = if object.contains_key("alternatives") { "alternatives" } else { "perturbed_answer" };
                let paraphrase = object.contains_key("paraphrased_answer");
                Ok(RecordKind::Question {
                    question: string(object, "question")?,
                    answer: string(object, "answer")?,
                    alternatives: optional_strings(object, wrong)?,
                    aliases: optional_strings(object, "aliases")?,
                    paraphrase: paraphrase.then(|| string(object, "paraphrased_answer")).transpose()?,
                })
            }
            "messages" => messages(&object["messages"]),
            _ => Ok(RecordKind::Fact {
                subject: string(object, "subject")?,
                relation: string(object, "relation")?,
                object: string(object, "object")?,
                alternatives: optional_strings(object, "alternatives")?,
                aliases: optional_strings(object, "aliases")?,
                subject_aliases: optional_strings(object, "subject_aliases")?,
            }),
        }
    }
}

/// The one kind whose keys are all there.
fn kind_of(object: &Map<String, Value>) -> Parsed<&'static str> {
    let complete: Vec<_> = KINDS.iter().filter(|(_, keys)| keys.iter().all(|&key| object.contains_key(key))).collect();
    match complete[..] {
        [(kind, _)] => Ok(kind),
        [] => {
            let found: Vec<_> = object.keys().take(12).map(String::as_str).collect();
            let found =
                if found.is_empty() { "no keys".to_string() } else { format!("the keys {}", quoted(&found, ", ")) };
            let accepted: Vec<_> = KINDS.iter().map(|(_, keys)| quoted(keys, "+")).collect();
            Err(format!("found {found}; a record has one of {}", accepted.join(", ")))
        }
        _ => {
            let sets: Vec<_> = complete.iter().map(|(_, keys)| quoted(keys, "+")).collect();
            Err(format!("the record is ambiguous: it has {}; keep one of them", sets.join(" and ")))
        }
    }
}

fn quoted(keys: &[&str], separator: &str) -> String {
    keys.iter().map(|key| format!("`{}`", shortened(key))).collect::<Vec<_>>().join(separator)
}

/// `text` cut to what an error message can carry.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn text_of(value: &Value, name: &str) -> Parsed<String> {
    match value {
        Value::String(text) if text.trim().is_empty() => Err(format!("`{name}` is empty")),
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("`{name}` must be a string, found {}", type_name(other))),
    }
}

fn string(object: &Map<String, Value>, key: &str) -> Parsed<String> {
    text_of(&object[key], key)
}

fn optional_strings(object: &Map<String, Value>, key: &str) -> Parsed<Vec<String>> {
    match object.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().enumerate().map(|(i, item)| text_of(item, &format!("{key}[{i}]"))).collect()
        }
        Some(other) => Err(format!("`{key}` must be an array of strings, found {}", type_name(other))),
    }
}

fn integers(object: &Map<String, Value>, key: &str) -> Parsed<Vec<i64>> {
    let Value::Array(items) = &object[key] else {
        return Err(format!("`{key}` must be an array of integers, found {}", type_name(&object[key])));
    };
    if items.is_empty() {
        return Err(format!("`{key}` is empty"));
    }
    let integer = |(i, item): (usize, &Value)| {
        item.as_i64().ok_or_else(|| match item {
            Value::Number(number) => format!("`{key}`[{i}] is {number}, not an integer in range"),
            other => format!("`{key}`[{i}] must be an integer, found {}", type_name(other)),
        })
    };
    items.iter().enumerate().map(integer).collect()
}

fn tokens(object: &Map<String, Value>) -> Parsed<RecordKind> {
    let (ids, labels) = (integers(object, "input_ids")?, integers(object, "labels")?);
    if ids.len() != labels.len() {
        let (ids, labels) = (ids.len(), labels.len());
        return Err(format!(
            "`input_ids` has {ids} entries and `labels` {labels}: there must be one label for each id"
        ));
    }
    let id = |(i, &id): (usize, &i64)| {
        u32::try_from(id).map_err(|_| format!("`input_ids`[{i}] is {id}: a token id is between 0 and {}", u32::MAX))
    };
    Ok(RecordKind::Tokens { ids: ids.iter().enumerate().map(id).collect::<Parsed<_>>()?, labels })
}

fn messages(value: &Value) -> Parsed<RecordKind> {
    let Value::Array(items) = value else {
        return Err(format!("`messages` must be an array of {{role, content}}, found {}", type_name(value)));
    };
    if items.is_empty() {
        return Err("`messages` is empty".into());
    }
    let messages = items.iter().enumerate().map(|(i, item)| message(i, item)).collect::<Parsed<Vec<_>>>()?;
    if !messages.iter().any(|message| message.role == "assistant") {
        return Err("`messages` has no turn of the role `assistant`: there is no target".into());
    }
    Ok(RecordKind::Messages { messages })
}

fn message(i: usize, value: &Value) -> Parsed<Message> {
    let Value::Object(object) = value else {
        return Err(format!("`messages`[{i}] must be an object {{role, content}}, found {}", type_name(value)));
    };
    let part = |key: &str| object.get(key).ok_or_else(|| format!("`messages`[{i}] has no `{key}`"));
    let role = text_of(part("role")?, &format!("messages[{i}].role"))?;
    let content = match part("content")? {
        // An empty system turn is how a template's default system text is switched off.
        Value::String(text) if text.is_empty() && role == "system" => String::new(),
        other => text_of(other, &format!("messages[{i}].content"))?,
    };
    let extra = object.iter().filter(|(key, value)| !matches!(key.as_str(), "role" | "content") && !value.is_null());
    Ok(Message { role, content, extra: extra.map(|(key, value)| (key.clone(), value.clone())).collect() })
}

/// The records of a file, read line by line. After an error nothing further comes.
pub struct Records {
    path: Arc<Path>,
    reader: BufReader<File>,
    line: usize,
    sha256: Sha256,
    failed: bool,
}

impl Records {
    /// Opens `path`.
    ///
    /// # Errors
    /// If it cannot be opened or is a directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path: Arc<Path> = path.as_ref().into();
        let file = File::open(&path).map_err(|error| Error::reading(&path, error))?;
        if file.metadata().map_err(|error| Error::reading(&path, error))?.is_dir() {
            return Err(Error::file(&path, "", "this is a directory; a file of JSON Lines is needed"));
        }
        Ok(Records { path, reader: BufReader::new(file), line: 0, sha256: Sha256::new(), failed: false })
    }

    /// The SHA-256 of the bytes read so far: of the whole file once the records have ended.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256.clone().finalize().into()
    }

    /// Goes on behind a line that is wrong.
    pub fn go_on(&mut self) {
        self.failed = false;
    }

    /// The next line's bytes without its end, or none at the end of the file.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(LONGEST_LINE + 1).read_until(b'\n', &mut bytes);
        let read = read.map_err(|error| Error::reading(&self.path, error))?;
        if read == 0 {
            return Ok(None);
        }
        self.sha256.update(&bytes);
        self.line += 1;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.len() as u64 > LONGEST_LINE {
            let problem = format!("the line is longer than {} MiB; a record stands on one line", LONGEST_LINE >> 20);
            return Err(self.origin().error(problem));
        }
        Ok(Some(bytes))
    }

    fn origin(&self) -> Origin {
        Origin { path: self.path.clone(), line: self.line }
    }

    fn next_record(&mut self) -> Result<Option<Record>> {
        while let Some(bytes) = self.next_line()? {
            let origin = self.origin();
            let text = std::str::from_utf8(&bytes).map_err(|error| {
                origin.error(format!("byte {} is not UTF-8; the file must be UTF-8 text", error.valid_up_to() + 1))
            })?;
            let text = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
            if !text.trim().is_empty() {
                let (kind, form) = parse_line(text).map_err(|problem| origin.error(problem))?;
                return Ok(Some(Record { kind, form, origin }));
            }
        }
        Ok(None)
    }
}

fn parse_line(text: &str) -> Parsed<(RecordKind, Option<String>)> {
    let object = match json::parse(text).map_err(|problem| format!("not a JSON object: {problem}"))? {
        Value::Object(object) => object,
        other => return Err(format!("each line must be a JSON object, found {}", type_name(&other))),
    };
    let form = if object.contains_key("form") { Some(string(&object, "form")?) } else { None };
    Ok((RecordKind::from_object(&object)?, form))
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        if self.failed {
            return None;
        }
        let next = self.next_record();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// All records of a file of JSON Lines. Blank lines are skipped; a byte order mark and CRLF are accepted.
///
/// # Errors
/// Names the file, the line and what is wrong with it: not UTF-8, not one JSON object, a key twice, no or more than
/// one complete set of keys, a value of the wrong type or empty; also a file without any record.
pub fn read_records(path: impl AsRef<Path>) -> Result<Vec<Record>> {
    let records: Vec<_> = Records::open(&path)?.collect::<Result<_>>()?;
    if records.is_empty() { Err(no_records(path.as_ref())) } else { Ok(records) }
}

/// The error for a file without any record.
pub(super) fn no_records(path: &Path) -> Error {
    Error::file(path, "", "the file has no records; one JSON object a line is needed")
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
