//! Targets, limits and hashes.

use std::path::PathBuf;

use super::*;
use crate::data::fake::{BEGIN, Bytes, END, file, options};

fn read(lines: &str, chat: bool, options: &ReadOptions) -> Result<Dataset> {
    let (_folder, path) = file(lines);
    read_dataset(&[path], Some(&Bytes { chat }), options)
}

/// The sample's tokens as text, with a ^ under each target; the special tokens are `>` and `$`.
fn picture(sample: &Sample) -> (String, String) {
    let text = sample.ids.iter().map(|&id| match id {
        BEGIN => '>',
        END => '$',
        byte => char::from(byte as u8),
    });
    let marks = sample.labels.iter().zip(&sample.ids).map(|(&label, &id)| {
        assert!(label == NOT_A_TARGET || label == id as i32);
        if label == NOT_A_TARGET { ' ' } else { '^' }
    });
    (text.collect(), marks.collect())
}

fn pictures(lines: &str, chat: bool, options: &ReadOptions) -> Vec<(String, String)> {
    read(lines, chat, options).unwrap().samples.iter().map(picture).collect()
}

fn assert_pictures(lines: &str, chat: bool, options: &ReadOptions, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(text, marks)| (text.to_string(), marks.to_string())).collect();
    assert_eq!(pictures(lines, chat, options), expected, "{lines}");
}

#[test]
fn each_kind_has_the_tokens_and_targets_of_the_contract() {
    let plain = options();
    let ending = ReadOptions { eos: true, ..options() };
    assert_pictures(r#"{"text": "ab"}"#, true, &plain, &[(">ab$", "^^^^")]);
    let completion = r#"{"prompt": "ab", "completion": " c"}"#;
    assert_pictures(completion, true, &plain, &[(">ab c", "   ^^")]);
    assert_pictures(completion, true, &ending, &[(">ab c$", "   ^^^")]);
    let question = r#"{"question": "Q?", "answer": "A"}"#;
    assert_pictures(question, false, &plain, &[(">Question: Q?\nAnswer: A", "                      ^")]);
    assert_pictures(question, false, &ending, &[(">Question: Q?\nAnswer: A$", "                      ^^")]);
    assert_pictures(question, true, &plain, &[("<user>Q?;\n<assistant>A;\n", "                     ^^ ")]);
    assert_pictures(question, true, &ending, &[("<user>Q?;\n<assistant>A;\n", "                     ^^ ")]);
    let template = ReadOptions { qa_template: Some("{answer}! was {question}".into()), ..options() };
    assert_pictures(question, true, &template, &[(">A! was Q?", " ^        ")]);
    let system = ReadOptions { system: Some("S".into()), ..options() };
    let expected = "<system>S;\n<user>Q?;\n<assistant>A;\n";
    assert_pictures(question, true, &system, &[(expected, "                                ^^ ")]);
    let messages = r#"{"messages": [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    assert_pictures(messages, true, &plain, &[("<assistant>a;\n<assistant>b;\n", "           ^^            ^^ ")]);
}

#[test]
fn a_fact_has_a_sample_for_each_phrasing() {
    let fact = r#"{"subject": "[Y]", "relation": "born", "object": "Ur"}"#;
    assert_pictures(fact, true, &options(), &[(">[Y] born Ur", "          ^^")]);
    let mut with = options();
    for template in ["[X] in [Y].", "[Y] bore [X]", "[X], a [Y] child"] {
        with.relations.add("born", template).unwrap();
    }
    let expected = [(">[Y] in Ur.", "        ^^ "), (">[Y], a Ur child", "        ^^      ")];
    assert_pictures(fact, true, &with, &expected);
    let dataset = read(fact, true, &with).unwrap();
    let forms: Vec<_> = dataset.samples.iter().map(|sample| sample.form.as_deref().unwrap()).collect();
    assert_eq!(forms, ["[X] in [Y].", "[X], a [Y] child"]);
    let other = r#"{"subject": "s", "relation": "died", "object": "o"}"#;
    assert!(read(other, true, &with).unwrap_err().to_string().contains("line 1: no phrasing of the relation `died`"));
}

#[test]
fn tokens_are_taken_as_they_are_without_a_tokenizer() {
    let (_folder, path) = file("{\"input_ids\": [5, 6, 7], \"labels\": [5, -100, 9], \"form\": \"x\"}\n");
    let dataset = read_dataset(&[&path], None, &ReadOptions::new(10, 3)).unwrap();
    let sample = &dataset.samples[0];
    assert_eq!(
        (&sample.ids[..], &sample.labels[..], sample.form.as_deref()),
        (&[5, 6, 7][..], &[5, -100, 9][..], Some("x"))
    );
    assert_eq!((dataset.tokens(), dataset.targets(), dataset.longest()), (3, 1, 3), "the first label never counts");
    let (_folder, path) = file("\n{\"text\": \"a\"}\n");
    let problem = read_dataset(&[&path], None, &ReadOptions::new(10, 3)).unwrap_err().to_string();
    assert!(problem.contains("line 2: a record of the kind `text` needs"), "{problem}");
    assert_eq!(problem.matches("in.jsonl").count(), 1, "{problem}");
}

#[test]
fn what_the_model_cannot_take_is_refused() {
    let small = ReadOptions::new(10, 4);
    let cut = ReadOptions { truncate: true, ..small.clone() };
    for (options, line, expected) in [
        (&small, r#"{"input_ids": [1], "labels": [1]}"#, "the sample has 1 token"),
        (&small, r#"{"input_ids": [1, 10], "labels": [1, 1]}"#, "token 1 is 10, outside the model's vocabulary of 10"),
        (&small, r#"{"input_ids": [1, 4294967295], "labels": [1, 1]}"#, "token 1 is 4294967295, outside"),
        (&small, r#"{"input_ids": [1, 2], "labels": [1, 10]}"#, "label 1 is 10: neither -100 nor"),
        (&small, r#"{"input_ids": [1, 2], "labels": [1, -1]}"#, "label 1 is -1: neither -100 nor"),
        (&small, r#"{"input_ids": [1, 2], "labels": [1, 9223372036854775807]}"#, "label 1 is 9223372036854775807"),
        (&small, r#"{"input_ids": [1, 2], "labels": [1, -100]}"#, "no target after the first token"),
        (&small, r#"{"input_ids": [1,1,1,1,1], "labels": [1,1,1,1,1]}"#, "has 5 tokens and the model's context is 4"),
        (&cut, r#"{"input_ids": [1,1,1,1,1], "labels": [1,-100,-100,-100,1]}"#, "no target within the model's context"),
        (&small, r#"{"text": "a"}"#, "outside the model's vocabulary"),
    ] {
        let problem = read(line, false, options).unwrap_err();
        assert!(problem.is_input() && problem.to_string().contains("line 1: "), "{problem}");
        assert!(problem.to_string().contains(expected), "{line}: {problem}");
    }
    let line = r#"{"input_ids": [1,2,3,4,5], "labels": [1,2,3,4,5]}"#;
    let sample = read(line, false, &cut).unwrap().samples.remove(0);
    assert_eq!((sample.ids, sample.labels), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
}

#[test]
fn options_that_cannot_work_are_refused() {
    let template = |text: &str| ReadOptions { qa_template: Some(text.into()), ..options() };
    for text in ["{question}", "{answer}", "{question} {answer} {answer}"] {
        let problem = read(r#"{"text": "ab"}"#, false, &template(text)).unwrap_err();
        assert!(problem.is_input() && problem.to_string().contains("times"), "{problem}");
    }
    let none: [PathBuf; 0] = [];
    assert!(read_dataset(&none, None, &options()).unwrap_err().is_input());
    let (_folder, path) = file("\n");
    assert!(read_dataset(&[path], None, &options()).unwrap_err().to_string().contains("no records"));
}

#[test]
fn the_hash_stands_for_files_options_and_tokens() {
    let line = "{\"question\": \"Q\", \"answer\": \"A\"}\n";
    let hash = |line: &str, chat: bool, options: &ReadOptions| read(line, chat, options).unwrap().sha256;
    let base = hash(line, true, &options());
    assert_eq!((base.len(), &base), (64, &hash(line, true, &options())));
    let spaced = format!("{line} \n");
    let truncating = ReadOptions { truncate: true, ..options() };
    for other in [hash(&spaced, true, &options()), hash(line, false, &options()), hash(line, true, &truncating)] {
        assert_ne!(base, other);
    }
    let (_folder, path) = file("abc");
    // The SHA-256 of "abc" as FIPS 180-2 prints it in its appendix B.1.
    let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let mut records = Records::open(&path).unwrap();
    assert!(records.next().unwrap().is_err());
    assert_eq!(hex(&records.sha256()), known);
}

#[test]
fn several_files_are_counted_apart() {
    let (_a, first) = file("{\"text\": \"ab\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    let (_b, second) = file("{\"text\": \"cd\"}\n");
    let dataset = read_dataset(&[&first, &second], Some(&Bytes { chat: false }), &options()).unwrap();
    assert_eq!(dataset.files.iter().map(|file| file.records).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(dataset.kinds, BTreeMap::from([("text", 2), ("completion", 1)]));
    assert_eq!(dataset.samples[2].origin.path.as_ref(), second.as_path());
    assert_eq!((dataset.tokens(), dataset.targets()), (4 + 3 + 4, 3 + 1 + 3));
}
