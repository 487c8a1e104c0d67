//! What reading records needs of a tokenizer: a small interface, so that the module works (on `input_ids`) without one.

use crate::Result;

/// Which special tokens the tokenizer adds around a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// None: the text's own tokens.
    None,
    /// Those in front only (BOS). A prompt that something follows must not carry the end token that some tokenizers
    /// append.
    Leading,
    /// All that the tokenizer's post-processor adds.
    All,
}

/// A text as tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The token ids.
    pub ids: Vec<u32>,
    /// For each token, the bytes of the text that it stands for, `(start, end)`; `(0, 0)` for an added special token.
    /// Some tokenizers leave leading white space out of a token's bytes.
    pub bytes: Vec<(usize, usize)>,
}

/// A turn of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant`, or whatever else the chat template knows.
    pub role: String,
    /// What was said.
    pub content: String,
    /// Every other key of the message, for the chat template to use.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Message {
    /// A turn without further keys.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into(), extra: Default::default() }
    }
}

/// A checkpoint's tokenizer and chat template.
pub trait Encoder: Send + Sync {
    /// The tokens of `text`.
    fn encode(&self, text: &str, special: Special) -> Result<Encoded>;

    /// The text of `ids`, with or without the special tokens among them.
    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String>;

    /// Whether the checkpoint has a chat template.
    fn has_chat_template(&self) -> bool;

    /// The conversation as the chat template writes it; `generation_prompt` adds the header of an assistant's turn.
    fn render_chat(&self, messages: &[Message], generation_prompt: bool) -> Result<String>;

    /// What to call the chat template in an error: its file.
    fn chat_template_name(&self) -> String;

    /// The token that ends a text, which `eos` adds to a completion.
    fn end_token(&self) -> Option<u32>;

    /// The tokens at which generation stops.
    fn eos_ids(&self) -> &[u32];
}
