//! A tokenizer that needs no file.

use efface::data::{Encoded, Encoder, Message, Special};

/// A tokenizer for which every byte is a token.
pub struct Bytes {
    /// Bytes are taken modulo this.
    pub vocabulary: u32,
    /// What texts begin with.
    pub begin: Option<u32>,
}

impl Encoder for Bytes {
    fn encode(&self, text: &str, special: Special) -> efface::Result<Encoded> {
        let mut encoded = Encoded::default();
        if let Some(begin) = self.begin.filter(|_| special != Special::None) {
            (encoded.ids, encoded.bytes) = (vec![begin], vec![(0, 0)]);
        }
        for (place, byte) in text.bytes().enumerate() {
            encoded.ids.push(u32::from(byte) % self.vocabulary);
            encoded.bytes.push((place, place + 1));
        }
        Ok(encoded)
    }

    fn decode(&self, _: &[u32], _: bool) -> efface::Result<String> {
        Ok(String::new())
    }

    fn has_chat_template(&self) -> bool {
        true
    }

    fn render_chat(&self, messages: &[Message], _: bool) -> efface::Result<String> {
        Ok(messages.iter().map(|message| format!("<{}>{}<end>", message.role, message.content)).collect())
    }

    fn chat_template_name(&self) -> String {
        "template".into()
    }

    fn end_token(&self) -> Option<u32> {
        None
    }

    fn eos_ids(&self) -> &[u32] {
        &[]
    }
}
