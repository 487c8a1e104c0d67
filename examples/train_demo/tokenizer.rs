//! A tokenizer of whole words, for the words of a few texts. Runs of letters and runs of signs are tokens, a new line is
//! one, other white space none; a decoder puts the spaces back where these texts have them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

const SPECIAL: [&str; 3] = ["<unk>", "<s>", "</s>"];
/// The token that every text begins with.
pub const BEGIN: u32 = 1;
/// The token that every answer ends with.
pub const END: u32 = 2;

/// What a token is: as [`tokens`] has it.
const PATTERN: &str = r"[A-Za-z]+|\n|[^A-Za-z\s]+";
/// How signs stand in these texts: what follows decoding with a space between all tokens.
const SPACING: [(&str, &str); 10] = [
    (" \n ", "\n"),
    (" .", "."),
    (" ,", ","),
    (" :", ":"),
    (" ;", ";"),
    (" ?", "?"),
    (" \":", "\":"),
    (" \",", "\","),
    (" \"}", "\"}"),
    ("\" ", "\""),
];

/// What the model is to know of its tokenizer.
#[derive(Debug)]
pub struct WordTokenizer {
    words: BTreeSet<String>,
}

impl WordTokenizer {
    /// The tokenizer of these texts' tokens.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        WordTokenizer { words: texts.into_iter().flat_map(tokens).map(String::from).collect() }
    }

    /// Number of tokens.
    pub fn size(&self) -> usize {
        SPECIAL.len() + self.words.len()
    }

    /// The content of tokenizer.json.
    pub fn json(&self) -> Value {
        let all = SPECIAL.into_iter().chain(self.words.iter().map(String::as_str));
        let vocabulary: Map<String, Value> =
            (0..).zip(all).map(|(id, token)| (token.into(), json!(id as u32))).collect();
        let special = |(id, token): (u32, &str)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        };
        let begin = json!({"SpecialToken": {"id": SPECIAL[BEGIN as usize], "type_id": 0}});
        let text = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
        let replace = |(from, to): (&str, &str)| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
        let spaces = json!({"type": "WordPiece", "prefix": "##", "cleanup": false});
        let decoders: Vec<Value> = [spaces, json!({"type": "Fuse"})].into_iter().chain(SPACING.map(replace)).collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": (0..).zip(SPECIAL).map(special).collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Removed", "invert": true},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [begin.clone(), text("A", 0)],
                "pair": [begin, text("A", 0), text("B", 1)],
                "special_tokens": {SPECIAL[BEGIN as usize]: {
                    "id": SPECIAL[BEGIN as usize], "ids": [BEGIN], "tokens": [SPECIAL[BEGIN as usize]]
                }}
            },
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": SPECIAL[0]}
        })
    }

    /// The content of tokenizer_config.json.
    pub fn config(context: usize) -> Value {
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": SPECIAL[0],
            "bos_token": SPECIAL[BEGIN as usize],
            "eos_token": SPECIAL[END as usize],
            "model_max_length": context,
            "clean_up_tokenization_spaces": false
        })
    }
}

/// The tokens of a text, as [`PATTERN`] cuts it.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let kind = |c: char| match c {
        '\n' => 0,
        c if c.is_ascii_alphabetic() => 1,
        c if c.is_whitespace() => 2,
        _ => 3,
    };
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c| kind(c) == 2);
        let first = kind(rest.chars().next()?);
        // Every new line is a token of its own.
        let length = if first == 0 { 1 } else { rest.find(|c| kind(c) != first).unwrap_or(rest.len()) };
        let (token, after) = rest.split_at(length);
        rest = after;
        Some(token)
    })
}
