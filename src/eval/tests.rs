//! Figures against values computed by hand and against a recursion that is plainly the definition.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::decode::Continuation;
use super::metrics::{self, Gold, rouge_l_recall};
use super::*;
use crate::data::forms::FactKey;
use crate::data::{Encoded, Message, Origin, Special};
use crate::report::forget::Role;
use crate::report::neighbours::{Kinship, Neighbours};
use crate::stats::wilson;

fn probe(gold: &str, gold_ids: &[u32], aliases: &[&str]) -> Probe {
    Probe {
        kind: ProbeKind::Answer,
        prompt_ids: vec![1],
        gold_ids: gold_ids.to_vec(),
        gold_text: (!gold.is_empty()).then(|| gold.into()),
        question: Some("Which?".into()),
        alternatives: vec!["Rome".into()],
        aliases: aliases.iter().map(|alias| alias.to_string()).collect(),
        form: Some("question".into()),
        phrasing: None,
        fact: None,
        wrong: Vec::new(),
        reworded: None,
        origin: Origin { path: Path::new("probes.jsonl").into(), line: 1 },
    }
}

fn said(ids: &[u32], ended: bool) -> Continuation {
    Continuation { ids: ids.to_vec(), ended }
}

#[test]
fn rouge_l_by_hand() {
    // Lin 2004, section 3.1: "police killed the gunman" against "police kill the gunman" has 3 of 4 words in order.
    assert_eq!(rouge_l_recall("police killed the gunman", "police kill the gunman"), Some(0.75));
    // ... and "the gunman kill police" has 2 of them: order counts.
    assert_eq!(rouge_l_recall("police killed the gunman", "the gunman kill police"), Some(0.5));
    assert_eq!(rouge_l_recall("Paris", "It is PARIS, of course."), Some(1.0));
    assert_eq!(rouge_l_recall("Île-de-France", "the île de france region"), Some(1.0));
    assert_eq!(rouge_l_recall("one two three", ""), Some(0.0));
    assert_eq!(rouge_l_recall("a a a", "a"), Some(1.0 / 3.0));
    assert_eq!(rouge_l_recall("?!", "anything"), None);
}

/// The definition: either the first words agree and count, or one of them is left out.
fn longest(one: &[u8], other: &[u8]) -> usize {
    match (one, other) {
        ([a, one @ ..], [b, other @ ..]) if a == b => 1 + longest(one, other),
        ([_, rest @ ..], [_, others @ ..]) => longest(rest, other).max(longest(one, others)),
        _ => 0,
    }
}

proptest! {
    #[test]
    fn rouge_l_is_the_definition(
        gold in prop::collection::vec(b'a'..b'e', 1..9), answer in prop::collection::vec(b'a'..b'e', 0..9),
    ) {
        let text = |words: &[u8]| words.iter().map(|w| char::from(*w).to_string()).collect::<Vec<_>>().join(" ");
        let expected = longest(&gold, &answer) as f64 / gold.len() as f64;
        prop_assert_eq!(rouge_l_recall(&text(&gold), &text(&answer)), Some(expected));
    }
}

#[test]
fn probability_and_perplexity_by_hand() {
    // Two tokens of probability 1/2 and 1/8: the geometric mean is 1/4.
    let losses = [2f64.ln(), 8f64.ln()];
    assert!((metrics::probability((losses[0] + losses[1]) / 2.0) - 0.25).abs() < 1e-12);
    // Every token counts alike, whatever text it is in: three of 1/2 and one of 1/8 give (8 · 8)^(1/4) = 64^(1/4).
    let texts = [(3.0 * losses[0], 3), (losses[1], 1)];
    assert!((metrics::perplexity(texts) - 64f64.powf(0.25)).abs() < 1e-12);
    assert!(metrics::probability(f64::NAN).is_nan());
}

#[test]
fn an_answer_with_an_end_must_end_there() {
    let probe = probe("Paris", &[5, 6, 9], &["the City of Light"]);
    let gold = Gold::of(&probe, &[9]);
    for right in ["Paris", "paris.", " \"Paris\"!", "The  city\nof light"] {
        assert!(gold.matches(&said(&[], true), Some(right)), "{right}");
    }
    for wrong in ["Paris, France", "Parisian", "Rome", "", "par is"] {
        assert!(!gold.matches(&said(&[5, 6], true), Some(wrong)), "{wrong}");
    }
    assert!(gold.matches(&said(&[5, 6], true), None));
    assert!(!gold.matches(&said(&[5, 6], false), None));
    assert!(!gold.matches(&said(&[5, 6, 7], true), None));
}

#[test]
fn an_answer_without_an_end_may_go_on() {
    let probe = probe("Paris", &[5, 6], &["Lutetia", "C++"]);
    let gold = Gold::of(&probe, &[9]);
    for right in ["Paris", "Paris, which is in", "lutetia of the", "C++17 and"] {
        assert!(gold.matches(&said(&[], false), Some(right)), "{right}");
    }
    for wrong in ["Parisian", "the Paris", "Rome", "Paris2"] {
        assert!(!gold.matches(&said(&[5, 6], false), Some(wrong)), "{wrong}");
    }
    assert!(gold.matches(&said(&[5, 6, 7], false), None));
    assert!(!gold.matches(&said(&[5], true), None));
}

#[test]
fn without_gold_texts_tokens_decide() {
    let probe = probe("", &[5, 6], &[]);
    let gold = Gold::of(&probe, &[]);
    assert!(gold.matches(&said(&[5, 6, 1], false), Some("whatever")));
    assert!(!gold.matches(&said(&[6, 5], false), Some("whatever")));
}

/// A tokenizer whose only job is to decode: token n is the n-th of these words.
struct Words;

impl Encoder for Words {
    fn encode(&self, _: &str, _: Special) -> Result<Encoded> {
        Ok(Encoded::default())
    }

    fn decode(&self, ids: &[u32], _: bool) -> Result<String> {
        Ok(ids.iter().map(|id| ["", " The", " capital", " is", " Paris", " Rome"][*id as usize]).collect())
    }

    fn has_chat_template(&self) -> bool {
        false
    }

    fn render_chat(&self, _: &[Message], _: bool) -> Result<String> {
        Ok(String::new())
    }

    fn chat_template_name(&self) -> String {
        String::new()
    }

    fn end_token(&self) -> Option<u32> {
        None
    }

    fn eos_ids(&self) -> &[u32] {
        &[]
    }
}

#[test]
fn an_answer_is_judged_by_its_text() {
    let probe = probe("Lutetia Paris", &[4], &["Paris"]);
    let answer = judge(&probe, said(&[1, 2, 3, 4], false), &[], Some(&Words)).unwrap();
    assert_eq!(answer.text.as_deref(), Some("The capital is Paris"));
    assert!(!answer.exact);
    // The better of 1 of 2 words and of 1 of 1.
    assert_eq!(answer.rouge_l, Some(1.0));
    assert!(judge(&probe, said(&[4, 5], false), &[], Some(&Words)).unwrap().exact);
    let without = judge(&probe, said(&[4, 5], false), &[], None).unwrap();
    assert!(without.exact && without.text.is_none() && without.rouge_l.is_none());
}

fn outcome(probe: usize, loss: f64, tokens: usize, text: Option<(&str, bool)>) -> ProbeOutcome {
    let answer = text.map(|(text, exact)| Answer { ids: vec![], text: Some(text.into()), exact, rouge_l: None });
    ProbeOutcome { probe, tokens, loss, probability: (-loss).exp(), answer }
}

fn form(kind: ProbeKind, outcomes: Vec<ProbeOutcome>) -> FormResult {
    FormResult { file: "probes.jsonl".into(), form: "question".into(), kind, outcomes }
}

#[test]
fn answers_count_by_probe_and_texts_by_token() {
    let (half, eighth) = (2f64.ln(), 8f64.ln());
    let outcomes = vec![outcome(0, half, 3, Some(("x", true))), outcome(1, eighth, 1, None)];
    let answers = form(ProbeKind::Answer, outcomes.clone());
    assert!((answers.probability() - 0.3125).abs() < 1e-12);
    assert!((answers.loss() - 2.0 * half).abs() < 1e-12);
    assert_eq!((answers.exact_match(), answers.perplexity()), (Some(1.0), None));
    let texts = form(ProbeKind::Text, outcomes);
    assert!((texts.perplexity().unwrap() - 64f64.powf(0.25)).abs() < 1e-12);
    assert!((texts.loss() - 64f64.ln() / 4.0).abs() < 1e-12);
    let row = EvalResult::from(&answers);
    assert_eq!((row.probes, row.exact_match, row.rouge_l), (2, Some(1.0), None));
}

#[test]
fn a_comparison_counts_what_was_known() {
    let probes: Vec<Probe> = (0..3).map(|_| probe("Paris", &[4], &[])).collect();
    let before = vec![
        outcome(0, 0.1, 1, Some(("Paris", true))),
        outcome(1, 0.1, 1, Some(("Oslo", false))),
        outcome(2, 0.1, 1, Some(("Paris", true))),
    ];
    let mut after = before.clone();
    after[2] = outcome(2, 2.0, 1, Some(("Rome", false)));
    after[1] = outcome(1, 0.0, 1, Some(("Paris", true)));
    let (before, after) = (form(ProbeKind::Answer, before), form(ProbeKind::Answer, after));
    let kept = Kept::of(&before, &after);
    assert_eq!((kept, kept.share()), (Kept { known: 2, still: 1 }, Some(0.5)));
    let row = compare(&before, &after, Role::Forget, true);
    let exact = row.exact_match.unwrap();
    assert!((exact.before - 2.0 / 3.0).abs() < 1e-12 && (exact.after - 2.0 / 3.0).abs() < 1e-12);
    let shown = examples(&probes, &before, &after, Role::Forget, (0, 5));
    let answers: Vec<_> = shown.iter().map(|e| (e.before.as_str(), e.after.as_str())).collect();
    assert_eq!(answers, [("Paris", "Paris"), ("Paris", "Rome")]);
    assert_eq!(examples(&probes, &before, &after, Role::Forget, (3, 1)).len(), 1);
}

#[test]
fn results_are_grouped_by_file_form_and_kind() {
    let mut other = probe("Paris", &[4], &[]);
    other.origin = Origin { path: Arc::from(Path::new("others.jsonl")), line: 3 };
    let mut text = probe("", &[4], &[]);
    (text.kind, text.form) = (ProbeKind::Text, None);
    let mut results = Vec::new();
    for probe in [&probe("a", &[4], &[]), &other, &text, &probe("b", &[4], &[])] {
        result_of(&mut results, probe).outcomes.push(outcome(0, 1.0, 1, None));
    }
    let found: Vec<_> = results.iter().map(|r| (r.file.as_str(), r.form.as_str(), r.outcomes.len())).collect();
    assert_eq!(found, [("probes.jsonl", "question", 2), ("others.jsonl", "question", 1), ("probes.jsonl", "text", 1)]);
}

#[test]
fn a_fact_is_recovered_by_any_of_its_probes() {
    let at = |line: usize| {
        let mut probe = probe("Paris", &[4], &[]);
        probe.origin.line = line;
        probe
    };
    // Line 1 is asked twice, lines 2 and 3 once; line 3 was not known.
    let probes = [at(1), at(1), at(2), at(3)];
    let results = |right: [bool; 4]| {
        let answer = |i: usize| outcome(i, 0.1, 1, Some(("x", right[i])));
        let mut other = form(ProbeKind::Answer, vec![answer(2), answer(3)]);
        other.file = "more.jsonl".into();
        vec![form(ProbeKind::Answer, vec![answer(0), answer(1)]), other]
    };
    let (before, after) = (results([true, true, true, false]), results([false, true, false, true]));
    let scores = scores::form_scores(&probes, &before, &after, Role::Forget, &|_| true);
    assert_eq!(scores.len(), 1, "two files, one form");
    let score = &scores[0];
    assert_eq!((score.probes, score.known_probes, score.known, score.still), (4, 3, 2, 1));
    assert_eq!(score.right, Some(0.5));
    let kept = scores::form_scores(&probes, &before, &before, Role::Retain, &|result| result.file != "more.jsonl");
    assert_eq!(kept.iter().map(|s| (s.held_out, s.right)).collect::<Vec<_>>(), [(true, Some(1.0)), (false, Some(1.0))]);
}

#[test]
fn neighbours_are_grouped_by_what_they_share() {
    let fact = |subject: &str, relation: &str| {
        let mut probe = probe("Paris", &[4], &[]);
        probe.fact = Some(FactKey { subject: subject.into(), relation: relation.into() });
        probe
    };
    let forgotten = [fact("france", "capital"), fact("italy", "language")];
    let kept = [
        fact("spain", "capital"),   // relation
        fact("spain", "capital"),   // relation, forgotten with it
        fact("chad", "capital"),    // relation, never known
        fact("italy", "currency"),  // subject
        fact("france", "language"), // both: subject of one, relation of the other
        fact("chad", "currency"),   // neither
        probe("Paris", &[4], &[]),  // no fact
        fact("france", "capital"),  // another object
    ];
    let results = |right: [bool; 8]| {
        let answers = (0..8).map(|i| outcome(i, 0.1, 1, Some(("x", right[i]))));
        vec![form(ProbeKind::Answer, answers.collect())]
    };
    let before = results([true, true, false, true, true, true, true, true]);
    let after = results([true, false, true, true, false, true, false, true]);
    let asked = Asked { probes: &kept, before: &before, after: &after };
    let groups = neighbours(&forgotten, [asked]);
    let figures: Vec<_> =
        groups.iter().map(|g| (g.kinship, [g.probes, g.known_probes, g.known_facts, g.still])).collect();
    assert_eq!(
        figures,
        [
            (Kinship::OtherSubject, [4, 3, 2, 1]),
            (Kinship::OtherRelation, [2, 2, 2, 1]),
            (Kinship::OtherObject, [1, 1, 1, 1]),
            (Kinship::None, [1, 1, 1, 1]),
        ]
    );
    assert_eq!((groups[0].kept, groups[0].interval), (Some(1.0 / 3.0), wilson(1, 3)));
    // Without knowledge there is no share, and without facts no neighbour.
    let unknown = results([false; 8]);
    let unknown = neighbours(&forgotten, [Asked { before: &unknown, ..asked }]);
    assert_eq!(unknown[0], Neighbours { probes: 4, ..Neighbours::new(Kinship::OtherSubject) });
    assert!(neighbours(&kept[6..7], [asked]).is_empty());
}

#[test]
fn a_subset_is_as_if_nothing_else_had_been_asked() {
    let other = |line: usize| {
        let mut probe = probe("Paris", &[4], &[]);
        (probe.form, probe.origin.line) = (Some("other".into()), line);
        probe
    };
    let probes = [probe("a", &[4], &[]), other(2), probe("b", &[4], &[]), other(4)];
    let group =
        |name: &str, outcomes: Vec<ProbeOutcome>| FormResult { form: name.into(), ..form(ProbeKind::Answer, outcomes) };
    let at = |place: usize, number: usize| outcome(place, number as f64, 1, None);
    let results = [group("question", vec![at(0, 0), at(2, 2)]), group("other", vec![at(1, 1), at(3, 3)])];
    let some = subset(&results, &probes, &[false, true, true, true]);
    assert_eq!(some, [group("other", vec![at(0, 1), at(2, 3)]), group("question", vec![at(1, 2)])]);
    assert!(subset(&results, &probes, &[false; 4]).is_empty());
}
