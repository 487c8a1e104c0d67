//! Forms by hand, everything that can be wrong with a file, and the split for random templates and seeds.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::data::Origin;

fn origin(line: usize) -> Origin {
    Origin { path: Path::new("facts.jsonl").into(), line }
}

fn fact(line: usize, subject: &str, relation: &str, object: &str) -> Record {
    let kind = RecordKind::Fact {
        subject: subject.into(),
        relation: relation.into(),
        object: object.into(),
        alternatives: Vec::new(),
        aliases: Vec::new(),
        subject_aliases: Vec::new(),
    };
    Record { kind, form: None, origin: origin(line) }
}

fn question(line: usize, question: &str, answer: &str) -> Record {
    let kind = RecordKind::Question {
        question: question.into(),
        answer: answer.into(),
        alternatives: Vec::new(),
        aliases: Vec::new(),
        paraphrase: None,
    };
    Record { kind, form: None, origin: origin(line) }
}

fn capitals() -> Vec<Record> {
    let all = [("France", "Paris"), ("Italy", "Rome"), ("Peru", "Lima"), ("Kenya", "Nairobi"), ("Iran", "Tehran")];
    all.iter().enumerate().map(|(i, (subject, object))| fact(i + 1, subject, "P36", object)).collect()
}

fn all_of(records: &[Record], forms: &Forms) -> Vec<Expression> {
    expand(records, forms).unwrap().0.into_iter().flatten().collect()
}

fn templates(value: serde_json::Value) -> Templates {
    let mut templates = Templates::default();
    parse::add(&mut templates, Path::new("t.json"), &value.to_string()).unwrap();
    templates
}

fn everything(templates: Templates, side: Side) -> Forms {
    Forms { per_form: usize::MAX, side, ..Forms::new(Arc::new(templates)) }
}

/// An expression as text, its target in brackets.
fn text(expression: &Expression) -> String {
    match &expression.body {
        Body::Text { text, target } => {
            format!("{}[{}]{}", &text[..target.start], &text[target.clone()], &text[target.end..])
        }
        Body::Chat { question, answer } => format!("<{question}>[{answer}]"),
    }
}

#[test]
fn the_built_in_templates_are_right_and_tell_a_capital_in_every_form() {
    let mut read = Templates::default();
    parse::add(&mut read, Path::new("builtin.json"), include_str!("builtin.json")).unwrap();
    assert_eq!(read.form_names().count(), 18);
    for id in ["P36", "P30", "P103", "P19", "P20", "P106", "P159", "P50", "P17", "Native_Language", "born-in"] {
        assert!(read.relation(id).is_some_and(|r| r.wordings.values().flatten().count() >= 5), "{id}");
    }
    let mut records = capitals();
    let RecordKind::Fact { aliases, subject_aliases, .. } = &mut records[0].kind else { unreachable!() };
    (*aliases, *subject_aliases) = (vec!["City of Light".into()], vec!["the French Republic".into()]);
    records.push(fact(6, "Paris", "country", "Europe's France"));
    for side in [Side::Train, Side::HeldOut] {
        let forms = Forms { side, ..Forms::new(Templates::builtin()) };
        let (told, refused) = expand(&records, &forms).unwrap();
        let made: BTreeSet<&str> = told[0].iter().map(|expression| &*expression.form).collect();
        let all: BTreeSet<&str> = forms.templates.form_names().collect();
        assert_eq!(made, all, "{side:?}: {refused:?}");
        assert!(told[0].iter().all(|expression| expression.side == side));
        assert!(told[0].len() <= 2 * all.len());
    }
}

#[test]
fn every_kind_of_slot_by_hand() {
    let file = json!({
        "relations": {"capital": {"ids": ["P36"], "noun": "seat of government", "phrases": ["In {subject}, {object} rules."],
            "questions": ["Who rules {subject}?"], "reversed": ["{object} rules?", "{object} rules {subject}."]}},
        "forms": {
            "a": ["{phrase}"], "b": ["{given} [[{object_alias}]]"], "c": ["{blanked} [[{spelled}]]"],
            "d": ["{false_claim} {claim} [[no]]"], "e": [{"user": "{question}", "assistant": "It is {object}."}],
            "f": ["{reversed_question} [[{subject}]]"], "g": ["{reversed_phrase}"], "h": ["{alias_phrase}"],
            "i": ["{alias_question}[[ {object}]]"], "j": {"escape": "json", "templates": ["{\"{key}\": \"[[{object}]]\"}"]},
            "k": ["{noun} {relation} {subject}: [[{next_noun} {next_object}]]"], "l": ["{list} / {options} [[{letter}]]"],
            "m": ["[[{text_start}]]{text_end}"], "n": ["{own_question} {alternative} [[{object}]]]"]
        }
    });
    let mut one = fact(1, "X", "p36", "Y \"Z\"");
    let RecordKind::Fact { aliases, subject_aliases, alternatives, .. } = &mut one.kind else { unreachable!() };
    (*aliases, *subject_aliases) = (vec!["Yz".into()], vec!["Xx".into()]);
    *alternatives = vec!["W".into()];
    let mut asked = question(3, "Why?", "So");
    let RecordKind::Question { alternatives, .. } = &mut asked.kind else { unreachable!() };
    *alternatives = vec!["No".into()];
    let plain = Record { kind: RecordKind::Text { text: "one two three".into() }, form: None, origin: origin(4) };
    let records = [one, fact(2, "y \"z\".", "age", "9"), asked, plain];
    let forms = Forms { share: 0.0, ..everything(templates(file), Side::Train) };
    let (told, _) = expand(&records, &forms).unwrap();
    let texts = |i: usize| told[i].iter().map(text).collect::<Vec<_>>();
    let choice = |list: &str, options: &str| format!("{list} / {options}");
    let first = texts(0);
    let expected = [
        "In X, [Y \"Z\"] rules.",
        "In X, [Yz]",
        "In X, ____ rules. [Y\n\"\nZ\n\"]",
        "In X, W rules. In X, Y \"Z\" rules. [no]",
        "<Who rules X?>[It is Y \"Z\".]",
        "Y \"Z\" rules? [X]",
        "Y \"Z\" rules [X].",
        "In Xx, [Y \"Z\"] rules.",
        "Who rules Xx?[ Y \"Z\"]",
        "{\"seat_of_government\": \"[Y \\\"Z\\\"]\"}",
        "seat of government p36 X: [age 9]",
    ];
    assert_eq!(first[..11], expected);
    let either = [choice("W, Y \"Z\"", "A. W\nB. Y \"Z\" [B]"), choice("Y \"Z\", W", "A. Y \"Z\"\nB. W [A]")];
    assert!(either.contains(&first[11]), "{}", first[11]);
    assert_eq!(first.len(), 12);
    assert!(texts(2).contains(&"Why? No [So]]".to_string()), "{:?}", texts(2));
    assert_eq!(texts(3), ["[one two] three"]);
}

#[test]
fn what_cannot_be_told_is_refused_by_name() {
    let mut records = capitals();
    records.truncate(1);
    records.push(fact(2, "Gaul", "capital", "Paris"));
    records.push(fact(3, "france ", "capital", "Paris."));
    records.push(fact(4, "Ur", "P9999", "Sumer"));
    let chosen = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect());
    let forms = Forms {
        chosen: chosen(&["multiple-choice", "reversed", "alias", "two-hop", "json"]),
        ..Forms::new(Templates::builtin())
    };
    let (told, refused) = expand(&records, &forms).unwrap();
    let why = |line: usize, form: &str| {
        let of_form = refused.iter().find(|r| r.origin.line == line && r.form.as_deref().unwrap_or("") == form);
        of_form.map_or(String::new(), |refusal| refusal.reason.clone())
    };
    assert!(why(1, "multiple-choice").contains("no wrong answers"), "{refused:?}");
    assert!(why(2, "reversed").contains("several subjects"), "{refused:?}");
    assert!(why(1, "alias").contains("`subject_aliases`"), "{refused:?}");
    assert!(why(1, "two-hop").contains("no record is about"), "{refused:?}");
    assert!(why(3, "").contains("says the same as facts.jsonl line 1"), "{refused:?}");
    assert!(why(4, "json").contains("no template file gives the relation `P9999` a noun"), "{refused:?}");
    assert!(told[2].is_empty() && told[3].is_empty());
    assert!(told[0].iter().all(|expression| &*expression.form == "json") && !told[0].is_empty());
    assert_eq!(counted(&refused).iter().map(|(count, _)| count).sum::<usize>(), refused.len());
}

#[test]
fn forms_and_figures_are_checked() {
    let with = |change: fn(&mut Forms)| {
        let mut forms = Forms::new(Templates::builtin());
        change(&mut forms);
        forms.check().unwrap_err().to_string()
    };
    assert!(
        with(|f| f.chosen = Some(vec!["clozze".into()])).contains("there is no form `clozze`; there are statement")
    );
    assert!(with(|f| f.hold_out = vec!["x".into()]).contains("--hold-out-forms"));
    assert!(with(|f| f.hold_out = vec!["json".into(), "json".into()]).contains("twice"));
    assert!(with(|f| f.share = 1.0).contains("below 1"));
    assert!(with(|f| f.share = f64::NAN).contains("NaN"));
    assert!(with(|f| f.per_form = 0).contains("at least one"));
    let all_out = |f: &mut Forms| (f.chosen, f.hold_out) = (Some(vec!["json".into()]), vec!["json".into()]);
    assert!(with(all_out).contains("nothing is left to train on"));
}

#[test]
fn what_is_wrong_with_a_file_is_named_with_its_place() {
    for (file, problem) in [
        (r#"{"forms": {"x": []}}"#, "forms: `x`: the form is empty"),
        (r#"{"forms": {"x": {"templates": []}}}"#, "forms: `x`: the form is empty"),
        (
            r#"{"forms": {"x": ["no [[target]]"]}}"#,
            "forms: `x`: templates[0]: the template `no [[target]]` has no slot",
        ),
        (r#"{"forms": {"x": ["{phrase}", "{subject}"]}}"#, "templates[1]: the template `{subject}` has no target"),
        (r#"{"forms": {"x": ["[[{object}]] [[{subject}]]"]}}"#, "more than one target"),
        (r#"{"forms": {"x": ["{phrase} [[{object}]]"]}}"#, "more than one target"),
        (r#"{"forms": {"x": ["]] {subject} [["]}}"#, "more than one target"),
        (r#"{"forms": {"x": ["{subject} [[]]"]}}"#, "is empty"),
        (r#"{"forms": {"x": ["[[{objct}]]"]}}"#, "`{objct}` is no slot"),
        (r#"{"forms": {"x": ["{question} {claim} [[{object}]]"]}}"#, "worded independently"),
        (r#"{"forms": {"x": ["{text} [[{subject}]]"]}}"#, "no record has both"),
        (r#"{"forms": {"x": ["{own_question} [[{subject}]]"]}}"#, "no record has both"),
        (r#"{"forms": {"x": [{"user": "{question}"}]}}"#, "`assistant` is missing"),
        (r#"{"forms": {"x": [{"user": "{phrase}", "assistant": "{object}"}]}}"#, "`user` has no [[target]]"),
        (r#"{"forms": {"x": {"templates": ["{phrase}"], "escape": "xml"}}}"#, "it can be `json`"),
        (r#"{"forms": {"x": [{"text": "{phrase}", "split": "test"}]}}"#, "`split` must be"),
        (r#"{"forms": {"all": ["{phrase}"]}}"#, "other than `all`"),
        (r#"{"relations": {"r": {"phrases": ["{subject} is"]}}}"#, "phrases[0]: `{subject} is` has {object} 0 times"),
        (r#"{"relations": {"r": {"phrases": ["{object} {subject}"]}}}"#, "belongs to `reversed`"),
        (r#"{"relations": {"r": {"questions": ["Who?"]}}}"#, "`Who?` has {subject} 0 times"),
        (r#"{"relations": {"r": {"questions": ["{subject} {object}?"]}}}"#, "it must stand there not at all"),
        (r#"{"relations": {"r": {"reversed": ["Who?"]}}}"#, "has {object} 0 times"),
        (r#"{"relations": {"r": {"reversed": ["{subject} {object}"]}}}"#, "belongs to `phrases`"),
        (r#"{"relations": {"r": {"phrases": []}}}"#, "`phrases` is empty"),
        (r#"{"relations": {"r": {"phrases": ["{subject} [[{object}]]"]}}}"#, "a wording has no [[target]]"),
        (r#"{"relations": {"r": {"noun": ""}}}"#, "the text is empty"),
        (
            r#"{"relations": {"r": {"ids": ["q"]}, "s": {}, "u": {"ids": ["Q", "S"]}}}"#,
            "is a name of the relation `s` already",
        ),
        (r#"{"relations": {"r": {"phrase": []}}}"#, "unknown key `phrase`"),
        (r#"{"relations": {"r": {"several": 1}}}"#, "`several` must be true or false"),
        (r#"{"forms": {"x": ["{phrase}"], "x": ["{phrase}"]}}"#, "stands twice"),
        ("{}", "a JSON object with `relations` and `forms` is needed"),
        ("[", "is needed"),
    ] {
        let mut templates = Templates::default();
        let error = parse::add(&mut templates, Path::new("t.json"), file).unwrap_err();
        assert!(error.is_input() && error.to_string().contains(problem), "{file}\n{error}\n{problem}");
        assert!(templates.form_names().next().is_none() && templates.relations.is_empty(), "half a file was taken");
    }
}

#[test]
fn files_add_and_replace() {
    let mut all = (*Templates::builtin()).clone();
    let before = all.form("statement").unwrap().templates.len();
    let file = json!({
        "relations": {"p36": {"phrases": ["{subject}: {object}"]}, "author": {"replace": true, "noun": "writer"}},
        "forms": {"statement": ["Indeed, {phrase}"], "json": {"replace": true, "templates": ["<[[{object}]]>"]}, "new": ["{phrase}"]}
    });
    parse::add(&mut all, Path::new("t.json"), &file.to_string()).unwrap();
    assert_eq!(all.form("statement").unwrap().templates.len(), before + 1);
    assert_eq!(all.form("json").unwrap().templates.len(), 1);
    assert_eq!(all.canonical("P36"), "capital");
    assert_eq!(all.relation("capital").unwrap().wordings[&slot::WordingKind::Phrases].len(), 7);
    assert!(all.relation("P50").unwrap().wordings.is_empty());
    assert_eq!(all.form_names().last(), Some("new"));
}

#[test]
fn tables_of_phrasings_take_the_place_of_statements() {
    let mut relations = crate::data::Relations::default();
    for text in ["[X] {noun} [Y] .", "[Y] has [X]"] {
        relations.add("P36", text).unwrap();
    }
    let mut all = (*Templates::builtin()).clone();
    all.use_phrasings(&relations);
    let chosen = Some(vec!["statement".to_string()]);
    let forms = Forms { chosen, share: 0.0, ..everything(all.clone(), Side::Train) };
    assert_eq!(all_of(&capitals()[..1], &forms).iter().map(text).collect::<Vec<_>>(), ["France {noun} [Paris] ."]);
    let forms = Forms { chosen: Some(vec!["reversed".into()]), ..forms };
    assert!(all_of(&capitals()[..1], &forms).iter().map(text).any(|text| text == "Paris has [France]"));
}

#[test]
fn wrong_options_are_wrong() {
    let mut records = capitals();
    records.push(fact(6, "France", "border", "Italy"));
    records.push(fact(7, "France", "border", "Spain"));
    records.push(fact(8, "Peru", "border", "Chile"));
    for seed in 0..20 {
        let forms = Forms { seed, ..everything((*Templates::builtin()).clone(), Side::Train) };
        let (told, _) = expand(&records, &forms).unwrap();
        for expression in told[5].iter().filter(|expression| expression.answer() == "Italy") {
            assert_eq!(expression.alternatives, ["Chile"], "Spain is right, and cities are not of the kind");
        }
        let choice = told[0].iter().find(|e| &*e.form == "multiple-choice" && e.answer() == "Paris");
        let wrong: BTreeSet<&str> = choice.into_iter().flat_map(|e| &e.alternatives).map(String::as_str).collect();
        assert!(choice.is_none() || (wrong.len() == 3 && !wrong.contains("Paris")), "{wrong:?}");
    }
}

#[test]
fn a_record_draws_alike_whatever_stands_beside_it() {
    let forms = Forms::new(Templates::builtin());
    let (all, few) = (expand(&capitals(), &forms).unwrap().0, expand(&capitals()[..4], &forms).unwrap().0);
    let plain = |list: &[Expression]| {
        let wordless = |e: &&Expression| !matches!(&*e.form, "multiple-choice" | "true-false");
        list.iter().filter(wordless).map(text).collect::<Vec<_>>()
    };
    assert_eq!(plain(&all[0]), plain(&few[0]));
    assert_eq!(all, expand(&capitals(), &forms).unwrap().0);
}

/// A file of random templates, many of which differ in nothing that counts.
fn random_file() -> impl Strategy<Value = serde_json::Value> {
    let words = || prop::sample::select(vec!["is", "is ", " IS", "has", "", "the", "of", ".", "?", "A: "]);
    let phrase = (words(), words(), words()).prop_map(|(a, b, c)| format!("{a}{{subject}} {b} {{object}}{c}"));
    let asked = (words(), words()).prop_map(|(a, b)| format!("{a} {{subject}} {b}"));
    let reversed = (words(), words()).prop_map(|(a, b)| format!("{a} {{object}} {b}"));
    let frames = vec![
        "{phrase}",
        "{claim} [[yes]]",
        "{question} [[{object}]]",
        "{question}  [[{object}]].",
        "{blanked} [[{object}]]",
        "{subject} is [[{object}]]",
        "{subject} has [[{object}]]",
        "the {subject} [[{object}]]",
        "{given} [[{object}]]",
        "{reversed_question} [[{subject}]]",
        "{own_question} [[{object}]]",
        "[[{text}]]",
        "{text_start}[[{text_end}]]",
        "{subject}: [[{spelled}]]",
        "{list} [[{object}]]",
    ];
    let side = || prop::sample::select(vec![None, None, None, Some("train"), Some("held-out")]);
    let item = |text: String, split: Option<&str>| match split {
        Some(split) => json!({"text": text, "split": split}),
        None => json!(text),
    };
    let list = |texts: BoxedStrategy<String>| {
        prop::collection::vec((texts, side()), 1..5)
            .prop_map(move |all| all.into_iter().map(|(text, split)| item(text, split)).collect::<Vec<_>>())
    };
    let relation = (list(phrase.boxed()), list(asked.boxed()), list(reversed.boxed())).prop_map(
        |(phrases, questions, reversed)| json!({"phrases": phrases, "questions": questions, "reversed": reversed}),
    );
    let form = list(prop::sample::select(frames).prop_map(String::from).boxed());
    (relation, prop::collection::vec(form, 1..5)).prop_map(|(relation, forms)| {
        let forms: serde_json::Map<_, _> =
            forms.into_iter().enumerate().map(|(i, list)| (format!("form{i}"), json!(list))).collect();
        json!({"relations": {"r": relation}, "forms": forms})
    })
}

/// Records whose names are chosen to collide.
fn random_records() -> impl Strategy<Value = Vec<Record>> {
    let name = || prop::sample::select(vec!["a", "A", "b", "is", "a is", "b.", "the", "c d", "has a"]);
    let record = (0..4, name(), name(), name());
    prop::collection::vec(record, 1..8).prop_map(|all| {
        let one = |(i, (kind, a, b, c)): (usize, (i32, &str, &str, &str))| match kind {
            0 => Record { kind: RecordKind::Text { text: format!("{a} {b} {c}") }, form: None, origin: origin(i + 1) },
            1 => question(i + 1, &format!("{a} {b}"), c),
            2 => fact(i + 1, a, "unknown", b),
            _ => fact(i + 1, a, "r", b),
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn train_and_held_out_never_mix(
        file in random_file(), records in random_records(), seed in any::<u64>(), share in 0.0..0.99f64,
        held_out in prop::collection::vec(0..4usize, 0..2), per_form in 1..4usize,
    ) {
        let templates = Arc::new(templates(file));
        let exists = |name: &String| templates.form(name).is_some();
        let mut hold_out: Vec<String> = held_out.iter().map(|i| format!("form{i}")).filter(exists).collect();
        hold_out.dedup();
        let forms = Forms { hold_out: hold_out.clone(), share, per_form: usize::MAX, seed, ..Forms::new(templates.clone()) };
        if forms.check().is_err() {
            return Ok(());
        }
        let train = all_of(&records, &forms);
        // Whatever is asked, in whichever forms and however few of them.
        let asked = all_of(&records, &forms.probing(None));
        let fewer = all_of(&records, &Forms { per_form, ..forms.probing(None) });
        let texts: HashSet<String> = train.iter().map(Expression::compared).collect();
        for probe in asked.iter().chain(&fewer) {
            prop_assert!(!texts.contains(&probe.compared()), "{} is on both sides", text(probe));
            prop_assert_eq!(probe.side, Side::HeldOut);
        }
        prop_assert!(train.iter().all(|e| e.side == Side::Train && !hold_out.contains(&e.form.to_string())));
        // A phrasing is on one side only, too.
        let phrasings: HashSet<(&str, &str)> = train.iter().map(|e| (&*e.form, &*e.phrasing)).collect();
        prop_assert!(asked.iter().all(|e| !phrasings.contains(&(&*e.form, &*e.phrasing))));
        // And so is a wording, whatever frame it stands in.
        let wording = |e: &Expression| e.phrasing.split_once(" | ").map(|(_, wording)| wording.to_string());
        let worded: HashSet<String> = train.iter().filter_map(wording).collect();
        prop_assert!(asked.iter().filter_map(wording).all(|wording| !worded.contains(&wording)));
    }

    #[test]
    fn hostile_files_are_refused_without_panic(text in "\\PC{0,80}") {
        let _ = parse::add(&mut Templates::default(), Path::new("t.json"), &text);
        let file = json!({"forms": {"x": [text.clone()]}, "relations": {"r": {"phrases": [text]}}}).to_string();
        let _ = parse::add(&mut Templates::default(), Path::new("t.json"), &file);
    }
}
