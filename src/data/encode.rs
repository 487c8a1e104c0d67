//! The checkpoint's tokenizer and chat template (feature `text`).
//!
//! What transformers' fast tokenizers do is what counts here: `tokenizer.json` decides on the special tokens around a
//! text (its post-processor, whatever `add_bos_token` says in tokenizer_config.json), truncation and padding are off,
//! and a conversation is encoded without further special tokens because the template has written them.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::{ModelWrapper, Tokenizer};

use super::chat::ChatTemplate;
use super::clock::Clock;
use super::encoder::{Encoded, Encoder, Message, Special};
use crate::{Error, Result};

/// The largest tokenizer file that is read, in bytes.
const LARGEST_FILE: u64 = 512 << 20;

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
const DEFAULT_TEMPLATE: &str = "default";

/// The names of special tokens that chat templates know.
const SPECIAL_NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A checkpoint's tokenizer with its chat template.
#[derive(Debug)]
pub struct TextEncoder {
    directory: PathBuf,
    tokenizer: Tokenizer,
    /// The file that the chat template is from, and the template or why it cannot be used.
    chat: Option<(&'static str, std::result::Result<ChatTemplate, String>)>,
    /// The special tokens that the post-processor puts in front of a text.
    leading: Vec<u32>,
    end_token: Option<u32>,
    eos_ids: Vec<u32>,
}

impl TextEncoder {
    /// Opens the tokenizer of the checkpoint in `directory`; none if there is no tokenizer.json.
    ///
    /// The end tokens are those of generation_config.json, else of config.json, else the tokenizer's. The chat
    /// template is chat_template.jinja, else the one in tokenizer_config.json (of several, the one named `default`). A
    /// template that cannot be compiled is an error only when it is used.
    ///
    /// # Errors
    /// If a file cannot be read or is malformed.
    pub fn open(directory: impl AsRef<Path>) -> Result<Option<Self>> {
        Self::open_at(directory.as_ref(), Clock::now())
    }

    fn open_at(directory: &Path, clock: Clock) -> Result<Option<Self>> {
        let path = directory.join(TOKENIZER);
        let Some(bytes) = read_if_present(&path)? else {
            return Ok(None);
        };
        let tokenizer = guarded(|| tokenizer(&bytes))
            .map_err(|error| Error::file(&path, "", format!("not a tokenizer: {error}")))?;
        let leading = guarded(|| leading_tokens(&tokenizer))
            .map_err(|error| Error::file(&path, "", format!("the tokenizer cannot encode a letter: {error}")))?;
        let config = object_if_present(&directory.join(CONFIG))?;
        let special_tokens = special_tokens(&config, &object_if_present(&directory.join(SPECIAL_TOKENS))?);
        let end_token = special_tokens.iter().find(|(name, _)| name == "eos_token");
        let end_token = end_token.and_then(|(_, token)| tokenizer.token_to_id(token));
        let mut eos_ids = Vec::new();
        for file in ["generation_config.json", "config.json"] {
            if eos_ids.is_empty() {
                let path = directory.join(file);
                eos_ids = end_ids(&object_if_present(&path)?, &path)?;
            }
        }
        if eos_ids.is_empty() {
            eos_ids.extend(end_token);
        }
        let chat = chat_source(directory, &config)?.map(|(file, source)| {
            let template = source.and_then(|source| ChatTemplate::new(&source, special_tokens, clock));
            (file, template)
        });
        let end_token = end_token.or(eos_ids.first().copied());
        Ok(Some(TextEncoder { directory: directory.to_path_buf(), tokenizer, chat, leading, end_token, eos_ids }))
    }

    fn failed(&self, what: &str, error: impl std::fmt::Display) -> Error {
        Error::file(self.directory.join(TOKENIZER), "", format!("the tokenizer cannot {what}: {error}"))
    }
}

impl Encoder for TextEncoder {
    fn encode(&self, text: &str, special: Special) -> Result<Encoded> {
        let encoding = guarded(|| self.tokenizer.encode(text, special == Special::All));
        let encoding = encoding.map_err(|error| self.failed("encode the text", error))?;
        let leading: &[u32] = if special == Special::Leading { &self.leading } else { &[] };
        let bytes = leading.iter().map(|_| (0, 0)).chain(encoding.get_offsets().iter().copied()).collect();
        Ok(Encoded { ids: [leading, encoding.get_ids()].concat(), bytes })
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        guarded(|| self.tokenizer.decode(ids, skip_special)).map_err(|error| self.failed("decode these tokens", error))
    }

    fn has_chat_template(&self) -> bool {
        self.chat.is_some()
    }

    fn render_chat(&self, messages: &[Message], generation_prompt: bool) -> Result<String> {
        let Some((file, template)) = &self.chat else {
            let problem = format!("the checkpoint has no chat template ({CHAT_TEMPLATE}, or in {CONFIG})");
            return Err(Error::file(&self.directory, "", problem));
        };
        let rendered = match template {
            Ok(template) => template.render(messages, generation_prompt),
            Err(problem) => Err(problem.clone()),
        };
        rendered.map_err(|problem| Error::file(self.directory.join(file), "chat template", problem))
    }

    fn chat_template_name(&self) -> String {
        let file = self.chat.as_ref().map_or(CHAT_TEMPLATE, |(file, _)| file);
        self.directory.join(file).display().to_string()
    }

    fn end_token(&self) -> Option<u32> {
        self.end_token
    }

    fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }
}

fn tokenizer(bytes: &[u8]) -> tokenizers::Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_bytes(bytes)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None)?;
    if let ModelWrapper::BPE(model) = tokenizer.get_model()
        && model.dropout.is_some()
    {
        // Merges that are skipped at random would give other tokens at each run.
        let mut model = model.clone();
        model.dropout = None;
        tokenizer.with_model(model);
    }
    Ok(tokenizer)
}

/// What `work` gives. The tokenizer library panics on some files that contradict themselves, such as a post-processor
/// that names a token it does not define; that is an error of the file like any other.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    let contradiction = |_| Err("its parts contradict one another".into());
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(contradiction)
}

fn leading_tokens(tokenizer: &Tokenizer) -> tokenizers::Result<Vec<u32>> {
    let encoding = tokenizer.encode("x", true)?;
    // The mask marks what the post-processor adds, not the special tokens that a text itself contains.
    let added = encoding.get_special_tokens_mask().iter().take_while(|&&added| added != 0).count();
    Ok(encoding.get_ids()[..added].to_vec())
}

/// The file's bytes, or none if there is no such file.
fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>> {
    let reading = |error| Error::reading(path, error);
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(reading)?,
    };
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(reading)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(Error::file(path, "", format!("the file is larger than {} MiB", LARGEST_FILE >> 20)));
    }
    Ok(Some(bytes))
}

/// The JSON object in the file; an empty one if there is no such file.
fn object_if_present(path: &Path) -> Result<Map<String, Value>> {
    let Some(bytes) = read_if_present(path)? else {
        return Ok(Map::new());
    };
    serde_json::from_slice(&bytes).map_err(|error| Error::file(path, "", format!("not a JSON object: {error}")))
}

/// The special tokens by name. A token is a string or an object with `content`.
fn special_tokens(config: &Map<String, Value>, fallback: &Map<String, Value>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()).map(String::from);
    let token = |name: &str| {
        let token = config.get(name).and_then(text).or_else(|| fallback.get(name).and_then(text))?;
        Some((name.to_string(), token))
    };
    SPECIAL_NAMES.into_iter().filter_map(token).collect()
}

/// `eos_token_id`: an integer, a list of them, null or absent.
fn end_ids(config: &Map<String, Value>, path: &Path) -> Result<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = match config.get("eos_token_id") {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(value) => id(value).map(|id| vec![id]),
    };
    ids.ok_or_else(|| Error::file(path, "`eos_token_id`", "must be a token id or a list of them"))
}

/// The chat template's file and source, or why none of its templates can be taken.
type ChatSource = (&'static str, std::result::Result<String, String>);

fn chat_source(directory: &Path, config: &Map<String, Value>) -> Result<Option<ChatSource>> {
    let path = directory.join(CHAT_TEMPLATE);
    if let Some(bytes) = read_if_present(&path)? {
        return Ok(Some((
            CHAT_TEMPLATE,
            String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_string()),
        )));
    }
    let source = match config.get("chat_template") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(source)) => Ok(source.clone()),
        Some(Value::Array(templates)) => default_template(templates),
        Some(_) => Err("`chat_template` must be a string or a list of {name, template}".to_string()),
    };
    Ok(Some((CONFIG, source)))
}

fn default_template(templates: &[Value]) -> std::result::Result<String, String> {
    let named =
        |name: &str| templates.iter().find(|template| template.get("name").and_then(Value::as_str) == Some(name));
    let source = named(DEFAULT_TEMPLATE).and_then(|template| template.get("template")?.as_str());
    source.map(String::from).ok_or_else(|| format!("none of the chat templates is named `{DEFAULT_TEMPLATE}`"))
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
