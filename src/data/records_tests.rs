//! What the reader accepts, and everything that it refuses.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(bytes: impl AsRef<[u8]>) -> Result<Vec<Record>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.jsonl");
    std::fs::write(&path, bytes).unwrap();
    read_records(&path)
}

fn kind(line: &str) -> RecordKind {
    read(line).unwrap().remove(0).kind
}

fn problem(bytes: impl AsRef<[u8]>) -> String {
    let error = read(bytes).unwrap_err();
    assert!(error.is_input(), "{error}");
    error.to_string()
}

#[test]
fn keys_decide_the_kind_and_unknown_keys_are_ignored() {
    let string = String::from;
    assert_eq!(
        kind(r#"{"input_ids": [3, 0, 4294967295], "labels": [-100, 0, 7], "attention_mask": [1, 1, 1]}"#),
        RecordKind::Tokens { ids: vec![3, 0, u32::MAX], labels: vec![-100, 0, 7] }
    );
    assert_eq!(kind(r#"{"text": " a\n", "labels": null}"#), RecordKind::Text { text: string(" a\n") });
    assert_eq!(
        kind(r#"{"prompt": "a", "completion": " b", "answer": 3}"#),
        RecordKind::Completion { prompt: string("a"), completion: string(" b") }
    );
    assert_eq!(
        kind(r#"{"question": "q", "answer": "a", "perturbed_answer": ["x"], "subject": "s", "object": ""}"#),
        RecordKind::Question {
            question: string("q"),
            answer: string("a"),
            alternatives: vec![string("x")],
            aliases: Vec::new(),
            paraphrase: None,
        }
    );
    assert_eq!(
        kind(r#"{"subject": "s", "relation": "r", "object": "o", "aliases": ["p"], "alternatives": []}"#),
        RecordKind::Fact {
            subject: string("s"),
            relation: string("r"),
            object: string("o"),
            alternatives: vec![],
            aliases: vec![string("p")],
            subject_aliases: Vec::new(),
        }
    );
    let line = r#"{"messages": [{"role": "system", "content": ""}, {"role": "assistant", "content": "a", "name": "n",
        "tool_calls": null}]}"#
        .replace('\n', " ");
    let mut answer = Message::new("assistant", "a");
    answer.extra.insert("name".into(), json!("n"));
    assert_eq!(kind(&line), RecordKind::Messages { messages: vec![Message::new("system", ""), answer] });
}

#[test]
fn blank_lines_a_byte_order_mark_and_crlf_are_accepted_and_lines_are_counted() {
    let records = read("\u{feff}{\"text\": \"a\", \"form\": \"cloze\"}\r\n\r\n  \n{\"text\": \"b\"}").unwrap();
    let seen: Vec<_> = records.iter().map(|record| (record.origin.line, record.form.as_deref())).collect();
    assert_eq!(seen, [(1, Some("cloze")), (4, None)]);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (line, expected) in [
        (r#"{"a": 1, "b": 2}"#, "found the keys `a`, `b`; a record has one of `input_ids`+`labels`, `text`,"),
        ("{}", "found no keys"),
        (r#"{"prompt": "a", "answer": "b"}"#, "found the keys `prompt`, `answer`"),
        (r#"{"text": "t", "question": "q", "answer": "a"}"#, "ambiguous: it has `text` and `question`+`answer`"),
        (r#"{"text": "t", "text": "u"}"#, "the key `text` stands twice"),
        (r#"{"text": 1}"#, "`text` must be a string, found a number"),
        (r#"{"text": null}"#, "`text` must be a string, found null"),
        (r#"{"text": " \n"}"#, "`text` is empty"),
        (r#"{"prompt": "a", "completion": ""}"#, "`completion` is empty"),
        (r#"{"question": "a", "answer": ["b"]}"#, "`answer` must be a string, found an array"),
        (r#"{"text": "a", "form": 3}"#, "`form` must be a string"),
        (r#"{"subject": "", "relation": "r", "object": "o"}"#, "`subject` is empty"),
        (r#"{"subject": "s", "relation": "r", "object": "o", "aliases": [1]}"#, "`aliases[0]` must be a string"),
        (r#"{"subject": "s", "relation": "r", "object": "o", "alternatives": "x"}"#, "`alternatives` must be an array"),
        (r#"{"input_ids": [], "labels": []}"#, "`input_ids` is empty"),
        (r#"{"input_ids": [1, 2], "labels": [1]}"#, "`input_ids` has 2 entries and `labels` 1"),
        (r#"{"input_ids": [1, 2.5], "labels": [1, 2]}"#, "`input_ids`[1] is 2.5, not an integer"),
        (r#"{"input_ids": [1, -1], "labels": [1, 2]}"#, "`input_ids`[1] is -1"),
        (r#"{"input_ids": [1, 4294967296], "labels": [1, 2]}"#, "`input_ids`[1] is 4294967296"),
        (r#"{"input_ids": [1, 2], "labels": [1, 1e99]}"#, "`labels`[1] is"),
        (r#"{"input_ids": [1, 2], "labels": [1, null]}"#, "`labels`[1] must be an integer, found null"),
        (r#"{"input_ids": "1 2", "labels": [1, 2]}"#, "`input_ids` must be an array of integers, found a string"),
        (r#"{"messages": []}"#, "`messages` is empty"),
        (r#"{"messages": {"role": "user"}}"#, "`messages` must be an array"),
        (r#"{"messages": ["hi"]}"#, "`messages`[0] must be an object"),
        (r#"{"messages": [{"role": "user"}]}"#, "`messages`[0] has no `content`"),
        (r#"{"messages": [{"role": "user", "content": ""}]}"#, "`messages[0].content` is empty"),
        (r#"{"messages": [{"role": "user", "content": [{"text": "a"}]}]}"#, "`messages[0].content` must be a string"),
        (r#"{"messages": [{"role": "user", "content": "a"}]}"#, "no turn of the role `assistant`"),
        ("[1]", "each line must be a JSON object, found an array"),
        (r#"{"text": "a"} {"text": "b"}"#, "not a JSON object: column 15: trailing characters"),
        (r#"{"text": "a""#, "not a JSON object: column 12: EOF"),
        ("text", "not a JSON object"),
    ] {
        let problem = problem(format!("{{\"text\": \"fine\"}}\n\n{line}\n"));
        assert!(problem.contains("in.jsonl: line 3: "), "{problem}");
        assert!(problem.contains(expected), "{line}\n  gives: {problem}\n  not:   {expected}");
    }
}

#[test]
fn a_file_that_holds_no_records_is_refused() {
    assert!(problem("").contains("no records"));
    assert!(problem("\n \r\n\t").contains("no records"));
    assert!(problem("\u{feff}").contains("no records"));
    let folder = tempfile::tempdir().unwrap();
    assert!(read_records(folder.path()).unwrap_err().to_string().contains("this is a directory"));
    assert!(read_records(folder.path().join("missing")).unwrap_err().is_input());
}

#[test]
fn text_that_is_not_utf8_is_refused_at_its_byte() {
    assert!(problem(b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}".as_slice()).contains("line 2: byte 11 is not UTF-8"));
}

#[test]
fn a_gigantic_line_is_refused_before_it_is_parsed() {
    let mut bytes = b"{\"text\": \"a\"}\n{\"text\": \"".to_vec();
    bytes.resize(bytes.len() + LONGEST_LINE as usize, b'a');
    bytes.extend(b"\"}\n");
    assert!(problem(bytes).contains("line 2: the line is longer than 64 MiB"));
}

#[test]
fn nothing_comes_after_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.jsonl");
    std::fs::write(&path, "{\"text\": \"a\"}\n?\n{\"text\": \"b\"}\n").unwrap();
    let seen: Vec<_> = Records::open(&path).unwrap().map(|record| record.is_ok()).collect();
    assert_eq!(seen, [true, false]);
}

/// Lines of every kind, from which the fuzzer starts.
const SEEDS: [&str; 7] = [
    r#"{"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "form": "f"}"#,
    r#"{"text": "Zoë \ud83d\udc1d \u0000"}"#,
    r#"{"prompt": "a", "completion": "b"}"#,
    r#"{"question": "q", "answer": "a"}"#,
    r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#,
    r#"{"subject": "s", "relation": "r", "object": "o", "alternatives": ["x"], "aliases": ["y", "z"]}"#,
    "{\"text\": \"a\"}\r\n\n{\"text\": \"b\"}",
];

/// A seed with some of its bytes replaced, removed or repeated.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let token =
        prop::sample::select(vec!["\"", "{", "}", "[", "]", ":", ",", "null", "1e9", "-1", "\\u", "\u{feff}", "\n"]);
    let inserted = prop_oneof![any::<u8>().prop_map(|byte| vec![byte]), token.prop_map(|text| text.into())];
    let change = (any::<prop::sample::Index>(), 0..4usize, inserted);
    (prop::sample::select(SEEDS.to_vec()), prop::collection::vec(change, 0..8)).prop_map(|(seed, changes)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (at, removed, inserted) in changes {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..(at + removed).min(bytes.len()), inserted);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    /// Whatever the bytes are, the reader gives records with something in them or an error about the input.
    #[test]
    fn mutated_lines_are_read_or_refused(bytes in mutated()) {
        match read(&bytes) {
            Ok(records) => prop_assert!(!records.is_empty()),
            Err(error) => prop_assert!(error.is_input() && error.to_string().contains("in.jsonl"), "{error}"),
        }
    }
}
