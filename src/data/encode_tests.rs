//! Encoding, decoding and chat templates against what transformers gives (tests/fixtures/data/make.py).

use serde_json::Value;

use super::super::{ReadOptions, read_dataset};
use super::*;

/// A number of ids that no fixture exceeds.
const VOCABULARY: usize = 1000;

/// The folder of golden files.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data")
}

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join("golden.json")).unwrap()).unwrap()
}

/// The encoder of a variant of the golden files.
fn variant(name: &str) -> TextEncoder {
    let golden = golden();
    let variants = golden["variants"].as_array().unwrap();
    let variant = variants.iter().find(|variant| variant["name"] == name).expect("the variant is in the golden file");
    open(variant, golden["seconds"].as_u64().unwrap())
}

fn open(variant: &Value, seconds: u64) -> TextEncoder {
    let folder = tempfile::tempdir().unwrap();
    let base = std::fs::read(fixtures().join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_slice(&base).unwrap();
    tokenizer["post_processor"] = variant["post_processor"].clone();
    std::fs::write(folder.path().join(TOKENIZER), tokenizer.to_string()).unwrap();
    for (file, text) in variant["files"].as_object().unwrap() {
        std::fs::write(folder.path().join(file), text.as_str().unwrap()).unwrap();
    }
    TextEncoder::open_at(folder.path(), Clock::at(seconds)).unwrap().expect("tokenizer.json is there")
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn for_each_variant(check: impl Fn(&str, &Value, &TextEncoder)) {
    let golden = golden();
    for variant in golden["variants"].as_array().unwrap() {
        let encoder = open(variant, golden["seconds"].as_u64().unwrap());
        check(variant["name"].as_str().unwrap(), variant, &encoder);
    }
}

fn messages(chat: &Value) -> Vec<Message> {
    let turn = |message: &Value| Message::new(message["role"].as_str().unwrap(), message["content"].as_str().unwrap());
    chat["messages"].as_array().unwrap().iter().map(turn).collect()
}

#[test]
fn texts_become_the_ids_that_transformers_gives_and_back() {
    for_each_variant(|name, variant, encoder| {
        assert_eq!(encoder.eos_ids(), [variant["eos"].as_u64().unwrap() as u32], "{name}");
        for case in variant["texts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let special = encoder.encode(text, Special::All).unwrap();
            assert_eq!(special.ids, ids(&case["special"]), "{name}: {text:?}");
            assert_eq!(encoder.encode(text, Special::None).unwrap().ids, ids(&case["plain"]), "{name}: {text:?}");
            assert_eq!(encoder.decode(&special.ids, false).unwrap(), case["decoded"], "{name}");
            assert_eq!(encoder.decode(&special.ids, true).unwrap(), case["decoded_plain"], "{name}");
        }
    });
}

#[test]
fn leading_special_tokens_leave_out_what_is_appended() {
    for_each_variant(|name, variant, encoder| {
        for case in variant["texts"].as_array().unwrap() {
            let (all, plain) = (ids(&case["special"]), ids(&case["plain"]));
            let first = all.windows(plain.len()).position(|window| window == plain).expect("the text's own tokens");
            let leading = encoder.encode(case["text"].as_str().unwrap(), Special::Leading).unwrap();
            assert_eq!(leading.ids, all[..first + plain.len()], "{name}: {}", case["text"]);
        }
    });
    let appends = variant("appends");
    let end = appends.end_token().unwrap();
    assert_eq!(appends.encode("x", Special::All).unwrap().ids.last(), Some(&end));
    assert_ne!(appends.encode("x", Special::Leading).unwrap().ids.last(), Some(&end));
    let begin = appends.encode("", Special::Leading).unwrap();
    assert_eq!(begin.ids.len(), 1, "of an empty text the leading token remains");
}

#[test]
fn conversations_are_written_as_transformers_writes_them() {
    for_each_variant(|name, variant, encoder| {
        for chat in variant["chats"].as_array().unwrap() {
            let messages = messages(chat);
            assert_eq!(encoder.render_chat(&messages, false).unwrap(), chat["rendered"].as_str().unwrap(), "{name}");
            let before = &messages[..messages.len() - 1];
            assert_eq!(encoder.render_chat(before, true).unwrap(), chat["prompt"].as_str().unwrap(), "{name}");
        }
    });
}

#[test]
fn the_targets_of_a_conversation_are_the_assistants_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let (compared, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    for_each_variant(|name, variant, encoder| {
        for chat in variant["chats"].as_array().unwrap().iter().filter(|_| name != "python") {
            std::fs::write(&path, serde_json::json!({"messages": chat["messages"]}).to_string()).unwrap();
            let read = read_dataset(&[&path], Some(encoder), &ReadOptions::new(VOCABULARY, 4096));
            if chat["mask"].is_null() {
                let problem = read.unwrap_err().to_string();
                assert!(problem.contains("line 1") && problem.contains("chat_template.jinja) is not prefix-stable"));
                refused.set(refused.get() + 1);
                continue;
            }
            let sample = &read.unwrap().samples[0];
            assert_eq!(sample.ids, ids(&chat["ids"]), "{name}");
            let mask: Vec<u32> = sample.labels.iter().map(|&label| (label != -100) as u32).collect();
            assert_eq!(mask, ids(&chat["mask"]), "{name}: {}", chat["rendered"]);
            assert!(sample.labels.iter().zip(&sample.ids).all(|(&label, &id)| label == -100 || label == id as i32));
            compared.set(compared.get() + 1);
        }
    });
    assert_eq!((compared.get(), refused.get()), (23, 2), "the template with thoughts is not stable over turns");
}

#[test]
fn what_is_missing_or_malformed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(TextEncoder::open(folder.path()).unwrap().is_none());
    let put = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    let problem = || TextEncoder::open(folder.path()).unwrap_err().to_string();
    for broken in ["", "{}", "{\"model\": 3}", "\u{0}"] {
        put(TOKENIZER, broken);
        assert!(problem().contains("tokenizer.json: not a tokenizer"), "{}", problem());
    }
    std::fs::copy(fixtures().join(TOKENIZER), folder.path().join(TOKENIZER)).unwrap();
    put("generation_config.json", r#"{"eos_token_id": "2"}"#);
    assert!(problem().contains("generation_config.json: `eos_token_id`: must be"), "{}", problem());
    put("generation_config.json", r#"{"eos_token_id": [2, 4]}"#);
    put("config.json", r#"{"eos_token_id": 1}"#);
    let encoder = TextEncoder::open(folder.path()).unwrap().unwrap();
    assert_eq!((encoder.eos_ids(), encoder.end_token()), (&[2, 4][..], Some(2)));
    assert!(!encoder.has_chat_template());
    put(CONFIG, "[]");
    assert!(problem().contains("tokenizer_config.json: not a JSON object"), "{}", problem());
    put(CONFIG, r#"{"chat_template": [{"name": "rag", "template": "x"}]}"#);
    let encoder = TextEncoder::open(folder.path()).unwrap().unwrap();
    let problem = encoder.render_chat(&[Message::new("user", "x")], false).unwrap_err().to_string();
    assert!(problem.contains("none of the chat templates is named `default`"), "{problem}");
}

#[test]
fn merges_are_never_dropped_at_random() {
    let base = std::fs::read(fixtures().join(TOKENIZER)).unwrap();
    let plain = super::tokenizer(&base).unwrap().encode("The capital of Quessia is Tarrowmere", false).unwrap();
    let mut dropping: Value = serde_json::from_slice(&base).unwrap();
    dropping["model"]["dropout"] = 0.9.into();
    dropping["truncation"] = serde_json::json!(
        {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    );
    let dropping = super::tokenizer(dropping.to_string().as_bytes()).unwrap();
    for _ in 0..5 {
        let encoding = dropping.encode("The capital of Quessia is Tarrowmere", false).unwrap();
        assert_eq!(encoding.get_ids(), plain.get_ids());
    }
}

/// tokenizer.json with a part of it replaced by something else: refused, or it encodes and decodes, but no panic.
#[test]
fn a_damaged_tokenizer_never_panics() {
    let base = std::fs::read_to_string(fixtures().join(TOKENIZER)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let texts = ["Orla Venn 🐝", " <s>\n", "x"];
    for (part, damaged) in damaged_parts() {
        let mut tokenizer: Value = serde_json::from_str(&base).unwrap();
        *tokenizer.pointer_mut(part).unwrap() = damaged.clone();
        std::fs::write(folder.path().join(TOKENIZER), tokenizer.to_string()).unwrap();
        match TextEncoder::open(folder.path()) {
            Ok(encoder) => texts.iter().for_each(|text| {
                let encoded = encoder.as_ref().unwrap().encode(text, Special::All);
                let _ = encoded.and_then(|encoded| encoder.as_ref().unwrap().decode(&encoded.ids, false));
            }),
            Err(error) => assert!(error.is_input(), "{part} {damaged}: {error}"),
        }
    }
}

fn damaged_parts() -> Vec<(&'static str, Value)> {
    let json = |text: &str| serde_json::from_str(text).unwrap();
    vec![
        ("/post_processor", processor(r#"{"<zz>": {"id": "<zz>", "ids": [9], "tokens": ["<zz>"]}}"#)),
        ("/post_processor", processor(r#"{"<zz>": {"id": "<zz>", "ids": [4294967295], "tokens": ["<zz>"]}}"#)),
        ("/post_processor", processor(r#"{"<zz>": {"id": "<zz>", "ids": [], "tokens": []}}"#)),
        ("/post_processor", processor(r#"{"<zz>": {"id": "<zz>", "ids": [1, 2], "tokens": ["<zz>"]}}"#)),
        ("/post_processor", processor("{}")),
        ("/model/merges", json("[]")),
        ("/model/merges", json(r#"[["a", "missing"]]"#)),
        ("/model/merges", json(r#"["a"]"#)),
        ("/model/vocab", json("{}")),
        ("/model/vocab", json(r#"{"a": 4294967295}"#)),
        ("/model/vocab", json(r#"{"a": -1}"#)),
        ("/model/dropout", json("7.5")),
        ("/model/unk_token", json(r#""missing""#)),
        ("/model/continuing_subword_prefix", json("\"@@\"")),
        ("/added_tokens", json("[]")),
        ("/added_tokens/0/id", json("4000000000")),
        ("/added_tokens/0/content", json(r#""""#)),
        ("/added_tokens/0/content", json(r#""<s>""#)),
        ("/pre_tokenizer", json("null")),
        (
            "/pre_tokenizer",
            json(r#"{"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}"#),
        ),
        ("/normalizer", json(r#"{"type": "Replace", "pattern": {"String": ""}, "content": "x"}"#)),
        ("/normalizer", json(r#"{"type": "Precompiled", "precompiled_charsmap": "AAAA"}"#)),
        ("/truncation", json(r#"{"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 9}"#)),
        ("/decoder", json("null")),
        ("/version", json("\"9.9\"")),
    ]
}

fn processor(special: &str) -> Value {
    let special: Value = serde_json::from_str(special).unwrap();
    let text = serde_json::json!({"Sequence": {"id": "A", "type_id": 0}});
    let token = serde_json::json!({"SpecialToken": {"id": "<zz>", "type_id": 0}});
    serde_json::json!({"type": "TemplateProcessing", "single": [token, text], "pair": [text, text], "special_tokens": special})
}
