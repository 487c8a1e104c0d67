//! Chat templates, rendered as the transformers library renders them.
//!
//! The environment is Jinja's with `trim_blocks`, `lstrip_blocks`, loop controls, the methods of Python's strings and
//! dictionaries, `raise_exception`, `strftime_now` and a `tojson` that does not escape for HTML. Templates see
//! `messages`, `add_generation_prompt`, the special tokens (`bos_token`, ...), and no tools or documents. They also
//! see `enable_thinking` as false: an answer in a record has no reasoning in front of it, so the header of its turn
//! is the one for an answer without.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};
use serde_json::Value as Json;

use super::clock::Clock;
use super::encoder::Message;
use super::python::call_method;

const NAME: &str = "chat_template";

/// How many instructions a template may run for one conversation: one that needs more does not end in human time.
const MOST_INSTRUCTIONS: u64 = 50_000_000;

/// A compiled chat template.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    /// The special tokens by their names, as `bos_token`.
    special_tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Compiles `source`, or says why it is no template.
    pub(super) fn new(source: &str, special_tokens: Vec<(String, String)>, clock: Clock) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| error.to_string())?);
        environment.set_fuel(Some(MOST_INSTRUCTIONS));
        environment.set_unknown_method_callback(call_method);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: String| {
            clock.format(&format).map_err(|problem| Error::new(ErrorKind::InvalidOperation, problem))
        });
        let source = without_generation_marks(source);
        environment.add_template_owned(NAME, source).map_err(|error| error.to_string())?;
        Ok(ChatTemplate { environment, special_tokens })
    }

    /// The conversation as text, or why the template refuses it.
    pub(super) fn render(&self, messages: &[Message], generation_prompt: bool) -> Result<String, String> {
        let special = self.special_tokens.iter().map(|(name, token)| (name.clone(), Value::from(token)));
        let given = [
            ("messages", messages.iter().map(message_value).collect()),
            ("add_generation_prompt", generation_prompt.into()),
            ("enable_thinking", false.into()),
            ("tools", ().into()),
            ("documents", ().into()),
        ];
        let given = given.into_iter().map(|(name, value): (&str, Value)| (name.to_string(), value));
        let template = self.environment.get_template(NAME).map_err(|error| error.to_string())?;
        template.render(Value::from_pairs(special.chain(given))).map_err(|error| error.to_string())
    }
}

fn message_value(message: &Message) -> Value {
    let said = [("role", Value::from(&message.role)), ("content", Value::from(&message.content))];
    let extra = message.extra.iter().map(|(key, value)| (key.as_str(), from_json(value)));
    Value::from_pairs(said.into_iter().chain(extra))
}

fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => ().into(),
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => value.into(),
            (None, Some(value)) => value.into(),
            _ => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => items.iter().map(from_json).collect(),
        Json::Object(object) => Value::from_pairs(object.iter().map(|(key, value)| (key.as_str(), from_json(value)))),
    }
}

/// `{% generation %}` marks the assistant's part for training libraries and changes nothing in what is written; it
/// opens a scope, as `with` does.
fn without_generation_marks(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((text, tag)) = rest.split_once("{%") {
        plain.push_str(text);
        plain.push_str("{%");
        let (tag, after) = tag.split_once("%}").map_or((tag, ""), |(tag, after)| (tag, after));
        let closed = rest.len() - after.len() > text.len() + 2 + tag.len();
        match tag.trim_matches(['-', '+', ' ', '\t', '\r', '\n']) {
            "generation" => plain.push_str(&tag.replace("generation", "with")),
            "endgeneration" => plain.push_str(&tag.replace("endgeneration", "endwith")),
            _ => plain.push_str(tag),
        }
        if closed {
            plain.push_str("%}");
        }
        rest = after;
    }
    plain + rest
}

/// `tojson` as Python's `json.dumps` writes it: separators with a space, no escapes for HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if ascii == Some(true) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson with ensure_ascii is not supported"));
    }
    let mut text = String::new();
    write_json(value, indent, 1, &mut text)?;
    Ok(text.into())
}

fn write_json(value: &Value, indent: Option<usize>, depth: usize, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => {
            return Err(Error::new(ErrorKind::UndefinedError, "tojson of a value that is undefined"));
        }
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&value.to_string()),
        ValueKind::Map => {
            let entry = |key: Value, out: &mut String| {
                write_json(&key.to_string().into(), indent, depth + 1, out)?;
                out.push_str(": ");
                write_json(&value.get_item(&key)?, indent, depth + 1, out)
            };
            write_items(['{', '}'], value.try_iter()?, indent, depth, out, entry)?;
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let item = |item: Value, out: &mut String| write_json(&item, indent, depth + 1, out);
            write_items(['[', ']'], value.try_iter()?, indent, depth, out, item)?;
        }
        _ => out.push_str(&Json::from(value.to_string()).to_string()),
    }
    Ok(())
}

fn write_items(
    brackets: [char; 2],
    items: impl Iterator<Item = Value>,
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
    write: impl Fn(Value, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |depth: usize| indent.map(|width| format!("\n{}", " ".repeat(width * depth)));
    let mut empty = true;
    out.push(brackets[0]);
    for item in items {
        if !empty {
            out.push_str(if indent.is_some() { "," } else { ", " });
        }
        empty = false;
        out.push_str(&new_line(depth).unwrap_or_default());
        write(item, out)?;
    }
    if !empty {
        out.push_str(&new_line(depth - 1).unwrap_or_default());
    }
    out.push(brackets[1]);
    Ok(())
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
