//! For tests: a tokenizer whose tokens are the text's bytes, so that what is right is plain to see.

use std::path::PathBuf;

use super::{Encoded, Encoder, Message, ReadOptions, Special};
use crate::Result;

/// The end token of [`Bytes`].
pub(super) const END: u32 = 256;
/// The token that [`Bytes`] puts in front.
pub(super) const BEGIN: u32 = 257;

/// A tokenizer of which every byte is a token, with a chat template if `chat`.
pub(super) struct Bytes {
    pub(super) chat: bool,
}

impl Encoder for Bytes {
    fn encode(&self, text: &str, special: Special) -> Result<Encoded> {
        let mut encoded = Encoded::default();
        let mut push = |id, bytes| {
            encoded.ids.push(id);
            encoded.bytes.push(bytes);
        };
        if special != Special::None {
            push(BEGIN, (0, 0));
        }
        text.bytes().enumerate().for_each(|(at, byte)| push(byte.into(), (at, at + 1)));
        if special == Special::All {
            push(END, (0, 0));
        }
        Ok(encoded)
    }

    fn decode(&self, ids: &[u32], _: bool) -> Result<String> {
        Ok(ids.iter().filter_map(|&id| u8::try_from(id).ok()).map(char::from).collect())
    }

    fn has_chat_template(&self) -> bool {
        self.chat
    }

    fn render_chat(&self, messages: &[Message], generation_prompt: bool) -> Result<String> {
        let turns = messages.iter().map(|message| format!("<{}>{};\n", message.role, message.content));
        Ok(turns.collect::<String>() + if generation_prompt { "<assistant>" } else { "" })
    }

    fn chat_template_name(&self) -> String {
        "template".into()
    }

    fn end_token(&self) -> Option<u32> {
        Some(END)
    }

    fn eos_ids(&self) -> &[u32] {
        &[END]
    }
}

/// Options that take everything that [`Bytes`] makes.
pub(super) fn options() -> ReadOptions {
    ReadOptions::new(258, 1000)
}

/// A file of lines, deleted with the folder.
pub(super) fn file(lines: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.jsonl");
    std::fs::write(&path, lines).unwrap();
    (folder, path)
}
