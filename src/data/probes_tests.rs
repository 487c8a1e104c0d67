//! What is given, what is gold, and what can be asked.

use super::super::fake::{Bytes, file, options};
use super::*;

fn read(lines: &str, chat: bool, options: &ReadOptions) -> Result<Vec<Probe>> {
    let (_folder, path) = file(lines);
    read_probes(&[path], Some(&Bytes { chat }), options).map(|set| set.probes)
}

fn texts(probe: &Probe) -> (String, String, Option<&str>, Option<&str>) {
    let text = |ids: &[u32]| Bytes { chat: false }.decode(ids, true).unwrap();
    (text(&probe.prompt_ids), text(&probe.gold_ids), probe.question.as_deref(), probe.gold_text.as_deref())
}

#[test]
fn each_kind_gives_its_prompt_and_gold_answer() {
    for (line, chat, prompt, gold, question, gold_text) in [
        (r#"{"prompt": "ab", "completion": " c"}"#, true, "ab", " c", Some("ab"), Some("c")),
        (r#"{"question": "Q?", "answer": "A"}"#, false, "Question: Q?\nAnswer: ", "A", Some("Q?"), Some("A")),
        (r#"{"question": "Q?", "answer": "A"}"#, true, "<user>Q?;\n<assistant>", "A;", Some("Q?"), Some("A")),
        (r#"{"subject": "s", "relation": "r", "object": "o"}"#, true, "s r ", "o", Some("s r"), Some("o")),
        (r#"{"input_ids": [97, 98, 99, 100], "labels": [97, -100, 99, -100]}"#, true, "ab", "c", Some("ab"), Some("c")),
        (r#"{"input_ids": [97, 98, 99], "labels": [97, 98, 99]}"#, true, "a", "bc", Some("a"), Some("bc")),
    ] {
        let probes = read(line, chat, &options()).unwrap();
        assert_eq!((probes.len(), probes[0].kind), (1, ProbeKind::Answer));
        let expected = (prompt.to_string(), gold.to_string(), question, gold_text);
        assert_eq!(texts(&probes[0]), expected, "{line}");
    }
}

#[test]
fn of_a_conversation_the_last_answer_is_asked() {
    let turn = |role: &str, content: &str| format!(r#"{{"role": "{role}", "content": "{content}"}}"#);
    let turns =
        [turn("user", "q"), turn("assistant", "a"), turn("user", "r"), turn("assistant", "b"), turn("user", "s")];
    let probes = read(&format!(r#"{{"messages": [{}]}}"#, turns.join(",")), true, &options()).unwrap();
    let prompt = "<user>q;\n<assistant>a;\n<user>r;\n<assistant>".to_string();
    assert_eq!(texts(&probes[0]), (prompt, "b;".to_string(), Some("r"), Some("b")));
}

#[test]
fn text_has_a_perplexity_only_and_may_be_cut() {
    let probes = read(r#"{"text": "abc"}"#, true, &ReadOptions { truncate: true, context: 3, ..options() }).unwrap();
    assert_eq!(
        (probes[0].kind, &probes[0].prompt_ids[..], &probes[0].gold_ids[..]),
        (ProbeKind::Text, &[257][..], &[97, 98][..])
    );
    let long = ReadOptions { truncate: true, context: 3, ..options() };
    let problem = read(r#"{"prompt": "ab", "completion": "c"}"#, true, &long).unwrap_err().to_string();
    assert!(problem.contains("has 4 tokens and the model's context is 3"), "an answer is never cut: {problem}");
}

#[test]
fn a_fact_is_asked_in_the_phrasings_that_end_with_its_object() {
    let fact = r#"{"subject": "s", "relation": "r", "object": "o", "aliases": ["p"], "alternatives": ["x", "y"]}"#;
    let mut with = options();
    for template in ["[X] in [Y] .", "[Y] has [X]", "[X], a [Y] child", "where [X] is: [Y]"] {
        with.relations.add("r", template).unwrap();
    }
    let probes = read(fact, true, &with).unwrap();
    let seen: Vec<_> =
        probes.iter().map(|probe| (probe.form.as_deref().unwrap(), texts(probe).0, texts(probe).1)).collect();
    let expected = [("[X] in [Y] .", "s in ", "o"), ("where [X] is: [Y]", "where s is: ", "o")];
    assert_eq!(seen, expected.map(|(form, prompt, gold)| (form, prompt.to_string(), gold.to_string())));
    assert_eq!((&probes[0].aliases[..], probes[0].alternatives.len()), (&["p".to_string()][..], 2));
    let mut without = options();
    without.relations.add("r", "[X], a [Y] child").unwrap();
    let problem = read(fact, true, &without).unwrap_err();
    assert!(
        problem.is_input() && problem.to_string().contains("line 1: no phrasing of the relation `r` ends with [Y]")
    );
}

#[test]
fn the_sample_of_a_probe_has_the_gold_answer_as_its_targets() {
    let probe = read(r#"{"prompt": "ab", "completion": "cd"}"#, true, &options()).unwrap().remove(0);
    let sample = probe.sample();
    assert_eq!(sample.ids, [257, 97, 98, 99, 100]);
    assert_eq!(sample.labels, [-100, -100, -100, 99, 100]);
    assert_eq!(sample.targets(), probe.gold_ids.len());
}
