//! Concepts' names in contexts, as tokens. What follows a name cannot change what the model computes at it, so that a context
//! is what stands before; a text ends with the name.

use std::sync::Arc;

use crate::data::{Encoder, Message, Special};
use crate::kernels::loss::NO_TARGET;
use crate::model::batch::Tokens;
use crate::{Error, Result};

/// What stands before a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// Text.
    Plain(String),
    /// A user's turn that begins so.
    Chat(String),
}

/// Openings of questions and instructions (those of ROCR, IEEE S&P 2026, and others).
const OPENINGS: [&str; 5] = [
    "Please answer the question about ",
    "Write the answer about ",
    "Tell me about ",
    "Write something about ",
    "What is ",
];
/// Openings of sentences: the name at the start, as a subject, as an object, as a place or a person.
const SENTENCES: [&str; 5] = ["", "The ", "I know ", "This is about ", "of "];

/// Contexts for any kind of concept; turns of a chat as well where there is a chat template.
pub fn usual(chat: bool) -> Vec<Context> {
    let plain = SENTENCES.iter().chain(&OPENINGS).map(|text| Context::Plain(text.to_string()));
    let turns = OPENINGS.iter().filter(|_| chat).map(|text| Context::Chat(text.to_string()));
    plain.chain(turns).collect()
}

/// The contexts in which a relation's phrasings show a subject: what stands before `[X]`.
pub fn of_phrasings<'p>(phrasings: impl Iterator<Item = &'p str>, chat: bool) -> Vec<Context> {
    let mut contexts = Vec::new();
    for before in phrasings.filter_map(|phrasing| phrasing.split_once("[X]").map(|(before, _)| before.to_string())) {
        let turn = Context::Chat(before.clone());
        contexts.push(Context::Plain(before));
        contexts.extend(chat.then_some(turn));
    }
    contexts.dedup();
    contexts
}

/// Contexts in which an object leads back to its subject: what stands before it, as text and, where there is a chat template, as
/// the beginning of a user's turn.
pub fn of_openings<'o>(openings: impl Iterator<Item = &'o str>, chat: bool) -> Vec<Context> {
    let both = |text: &str| [Some(Context::Plain(text.into())), chat.then(|| Context::Chat(text.into()))];
    openings.flat_map(both).flatten().collect()
}

/// A name's tokens in a context.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The text's tokens, ending with the name's.
    pub ids: Vec<u32>,
    /// The name's first token.
    pub first: usize,
}

impl Named {
    /// The name's last token.
    pub fn last(&self) -> usize {
        self.ids.len() - 1
    }

    /// As a sample without targets.
    pub fn sample(&self, number: usize) -> Arc<Tokens> {
        let targets = vec![NO_TARGET; self.ids.len()];
        Arc::new(Tokens { ids: self.ids.clone(), targets, number: number as u32 })
    }
}

/// Writes a name in a context.
///
/// # Errors
/// When the name is empty, has no token of its own, or the chat template fails or changes it.
pub fn write(encoder: &dyn Encoder, context: &Context, name: &str) -> Result<Named> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Error::argument("a concept's name is empty"));
    }
    let (text, special) = match context {
        Context::Plain(before) => (format!("{before}{name}"), Special::Leading),
        Context::Chat(before) => {
            let turn = Message::new("user", format!("{before}{name}"));
            let mut text = encoder.render_chat(&[turn], false)?;
            let Some(start) = text.rfind(name) else {
                let problem = format!("the chat template {} does not show {name:?}", encoder.chat_template_name());
                return Err(Error::argument(problem));
            };
            text.truncate(start + name.len());
            (text, Special::None)
        }
    };
    let start = text.len() - name.len();
    let encoded = encoder.encode(&text, special)?;
    let end = |bytes: &(usize, usize)| bytes.1;
    let Some(first) = encoded.bytes.iter().position(|bytes| end(bytes) > start) else {
        return Err(Error::argument(format!("the tokenizer makes nothing of the name {name:?}")));
    };
    Ok(Named { ids: encoded.ids, first })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrasing_gives_what_stands_before_the_subject() {
        let phrasings = ["The capital of [X] is [Y]", "[X]'s capital is [Y]", "[X], of which [Y]"];
        let plain = |text: &str| Context::Plain(text.into());
        assert_eq!(of_phrasings(phrasings.into_iter(), false), [plain("The capital of "), plain("")]);
        assert_eq!(of_phrasings(phrasings[..1].iter().copied(), true)[1], Context::Chat("The capital of ".into()));
        assert!(usual(true).len() > usual(false).len());
    }
}
