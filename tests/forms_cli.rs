//! Forms through the binary: what `efface data` shows, and what every command refuses of bad input.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn efface(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_efface"));
    command.current_dir(folder.path()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A folder with these files.
fn files(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

#[track_caller]
fn good(folder: &TempDir, arguments: &[&str]) -> String {
    let output = efface(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A call that must end with status 2 and one line that has every one of `needles`.
#[track_caller]
fn refused(folder: &TempDir, arguments: &[&str], needles: &[&str]) {
    let output = efface(folder, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    for needle in needles {
        assert!(stderr.contains(needle), "{arguments:?}: no `{needle}` in {stderr}");
    }
}

fn demo_model() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model").to_str().unwrap().to_string()
}

const FACTS: &str = r#"{"subject": "France", "relation": "P36", "object": "Paris", "aliases": ["City of Light"]}
{"subject": "Italy", "relation": "P36", "object": "Rome"}
{"subject": "Paris", "relation": "named_after", "object": "the Parisii"}
{"question": "Who wrote Hamlet?", "answer": "Shakespeare", "alternatives": ["Marlowe"]}
{"text": "All the world's a stage."}
{"prompt": "Two and two", "completion": " make four", "form": "sum"}
"#;

#[test]
fn data_shows_samples_with_their_targets() {
    let folder = files(&[("facts.jsonl", FACTS)]);
    let plain = good(&folder, &["data", "facts.jsonl"]);
    for part in [
        "France P36 ⟦Paris⟧",
        "Question: Who wrote Hamlet?\n    Answer: ⟦Shakespeare⟧",
        "⟦All the world's a stage.⟧",
        "Two and two⟦ make four⟧",
        "facts.jsonl: 6 records (1 completion, 3 fact, 1 question, 1 text)",
    ] {
        assert!(plain.contains(part), "{part}\n{plain}");
    }
    let all: Value =
        serde_json::from_str(&good(&folder, &["data", "facts.jsonl", "--forms", "all", "--json"])).unwrap();
    let forms: std::collections::BTreeSet<&str> =
        all["counts"].as_array().unwrap().iter().filter_map(|count| count["form"].as_str()).collect();
    for form in ["statement", "cloze", "multiple-choice", "true-false", "reversed", "json", "two-hop", "spelled", "sum"]
    {
        assert!(forms.contains(form), "{form}: {forms:?}");
    }
    let held_out = ["data", "facts.jsonl", "--forms", "all", "--side", "held-out", "--json"];
    let held_out: Value = serde_json::from_str(&good(&folder, &held_out)).unwrap();
    let phrasings = |value: &Value| {
        let samples = value["samples"].as_array().unwrap().iter();
        let one = |sample: &Value| format!("{} {}", sample["form"], sample["phrasing"]);
        samples.filter(|sample| !sample["phrasing"].is_null()).map(one).collect::<std::collections::BTreeSet<_>>()
    };
    let (train, asked) = (phrasings(&all), phrasings(&held_out));
    assert!(train.len() > 30 && asked.len() > 30);
    assert!(train.is_disjoint(&asked));
    assert_eq!(all["wrong"], Value::Array(Vec::new()));
    assert!(
        all["refused"].as_array().unwrap().iter().any(|refusal| refusal["reason"].as_str().unwrap().contains("alias"))
    );
}

#[test]
fn data_with_a_model_shows_its_tokens() {
    let folder = files(&[("facts.jsonl", r#"{"text": "person"}"#)]);
    let shown = good(&folder, &["data", "facts.jsonl", "--model", &demo_model(), "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(shown["samples"][0]["tokens"].as_u64().unwrap() >= 2, "{shown}");
    refused(&folder, &["data", "facts.jsonl", "--model", "nowhere"], &["nowhere"]);
}

#[test]
fn data_goes_on_behind_wrong_lines_and_says_so_at_the_end() {
    let lines = "{\"text\": \"a b\"}\nnot json\n{\"subject\": \"x\", \"relation\": \"P36\", \"object\": \"y\"}\n\
        {\"subject\": \"X\", \"relation\": \"capital\", \"object\": \"z\"}\n{\"text\": \"c d\"}\n";
    let folder = files(&[("in.jsonl", lines)]);
    let output = efface(&folder, &["data", "in.jsonl"]);
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for part in [
        "⟦c d⟧",
        "refused: in.jsonl: line 2: not a JSON object",
        "refused: in.jsonl: line 4: contradicts in.jsonl line 3",
    ] {
        assert!(stdout.contains(part), "{part}\n{stdout}");
    }
    assert!(stderr.contains("in.jsonl: line 2") && stderr.contains("2 lines refused in all"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}

#[test]
fn every_command_refuses_facts_that_cannot_be_true_together() {
    let model = demo_model();
    let folder = files(&[
        (
            "two.jsonl",
            "{\"subject\": \"a\", \"relation\": \"P36\", \"object\": \"b\"}\n{\"subject\": \"A \", \"relation\": \"capital\", \"object\": \"c\"}",
        ),
        (
            "alias.jsonl",
            "{\"subject\": \"a\", \"relation\": \"r\", \"object\": \"b\", \"subject_aliases\": [\"Bob\"]}\n{\"subject\": \"bob\", \"relation\": \"r\", \"object\": \"c\"}",
        ),
        (
            "several.jsonl",
            "{\"subject\": \"a\", \"relation\": \"border\", \"object\": \"b\"}\n{\"subject\": \"a\", \"relation\": \"P47\", \"object\": \"c\"}",
        ),
        (
            "same.jsonl",
            "{\"subject\": \"a\", \"relation\": \"P36\", \"object\": \"b\"}\n{\"subject\": \"a\", \"relation\": \"P36\", \"object\": \"c\", \"aliases\": [\"B\"]}",
        ),
        ("one.jsonl", "{\"subject\": \"a\", \"relation\": \"P36\", \"object\": \"b\"}"),
    ]);
    for (file, needles) in [
        (
            "two.jsonl",
            ["two.jsonl: line 2: contradicts two.jsonl line 1", "`c` here and `b` there", "\"several\": true"],
        ),
        ("alias.jsonl", ["alias.jsonl: line 1: the alias `Bob`", "alias.jsonl line 2", "take the alias out"]),
    ] {
        refused(&folder, &["data", file], &needles);
        refused(&folder, &["fisher", "--device", "cpu", "--model", &model, "--data", file, "--out", "F"], &needles);
        refused(&folder, &["eval", "--device", "cpu", "--model", &model, "--probes", file], &needles);
        let forget = ["forget", "--device", "cpu", "--model", &model, "--out", "o"];
        refused(&folder, &[&forget[..], &["--forget", file, "--retain", "one.jsonl"]].concat(), &needles);
    }
    good(&folder, &["data", "several.jsonl", "same.jsonl"]);
    let call = [
        "forget",
        "--device",
        "cpu",
        "--model",
        &model,
        "--out",
        "o",
        "--forget",
        "one.jsonl",
        "--retain",
        "two.jsonl",
    ];
    refused(&folder, &call, &["two.jsonl: line 2: contradicts"]);
}

#[test]
fn what_is_to_be_kept_must_not_be_what_is_to_be_forgotten() {
    let fact = |object: &str| format!("{{\"subject\": \"person\", \"relation\": \"P36\", \"object\": \"{object}\"}}");
    let others: String = (0..8)
        .map(|i| format!("{{\"text\": \"person {}\"}}\n", ["a", "is", "in", "the"][i % 4].repeat(i + 1)))
        .collect();
    let folder = files(&[
        ("forget.jsonl", &fact("painter")),
        ("same_fact.jsonl", &(others.clone() + &fact("PAINTER."))),
        ("text.jsonl", "{\"text\": \"The person is a painter\"}"),
        ("same_text.jsonl", &(others.clone() + "{\"prompt\": \"the  person is\", \"completion\": \" a painter.\"}")),
        ("other.jsonl", &(others + &fact("baker"))),
    ]);
    let model = demo_model();
    for (forget, retain, needles) in [
        ("forget.jsonl", "same_fact.jsonl", ["same_fact.jsonl: line 9", "forget.jsonl line 1 states the fact"]),
        ("text.jsonl", "same_text.jsonl", ["same_text.jsonl: line 9", "text.jsonl line 1 says the same"]),
        ("forget.jsonl", "other.jsonl", ["other.jsonl: line 9: contradicts", "forget.jsonl line 1"]),
    ] {
        let call =
            ["forget", "--device", "cpu", "--model", &model, "--forget", forget, "--retain", retain, "--out", "o"];
        refused(&folder, &call, &needles);
        assert!(!folder.path().join("o").exists());
    }
}

#[test]
fn wrong_templates_and_forms_are_refused_by_their_place() {
    let folder = files(&[
        ("facts.jsonl", FACTS),
        ("empty.json", r#"{"forms": {"mine": []}}"#),
        ("slotless.json", r#"{"forms": {"mine": ["The capital of France is [[Paris]]"]}}"#),
        ("objectless.json", r#"{"relations": {"capital": {"phrases": ["The capital of {subject}."]}}}"#),
        ("mine.json", r#"{"forms": {"mine": ["{phrase} Indeed.", "{phrase} Really."]}}"#),
    ]);
    for (arguments, needle) in [
        (vec!["--templates", "empty.json"], "empty.json: forms: `mine`: the form is empty"),
        (vec!["--templates", "slotless.json"], "slotless.json: forms: `mine`: templates[0]: the template"),
        (vec!["--templates", "objectless.json"], "objectless.json: relations: `capital`: phrases[0]"),
        (vec!["--templates", "nowhere.json"], "nowhere.json"),
        (vec!["--forms", "clozze"], "there is no form `clozze`"),
        (vec!["--forms", "json", "--hold-out-forms", "json"], "nothing is left to train on"),
        (vec!["--forms", "all", "--hold-out", "1"], "below 1"),
        (vec!["--hold-out-forms", "json"], "--forms"),
    ] {
        refused(&folder, &[&["data", "facts.jsonl"], &arguments[..]].concat(), &[needle]);
    }
    let shown = good(&folder, &["data", "facts.jsonl", "--templates", "mine.json", "--forms", "mine", "--show", "0"]);
    assert!(shown.contains("⟦Paris⟧"), "{shown}");
    let other = good(&folder, &["data", "facts.jsonl", "--forms", "all", "--split-seed", "1"]);
    assert_ne!(other, good(&folder, &["data", "facts.jsonl", "--forms", "all"]));
}

/// Facts about people of the demo's world: what its model knows, asked as its probes ask.
fn probes(name: &str, lines: usize) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/data/probes").join(name);
    fs::read_to_string(path).unwrap().lines().take(lines).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_model_against_itself_has_forgotten_nothing() {
    let folder = files(&[("forget.jsonl", &probes("forget.jsonl", 12)), ("retain.jsonl", &probes("retain.jsonl", 8))]);
    let model = demo_model();
    let call = [
        "eval",
        "--device",
        "cpu",
        "--model",
        &model,
        "--baseline",
        &model,
        "--probes-forget",
        "forget.jsonl",
        "--probes-retain",
        "retain.jsonl",
        "--attack",
        "8-bit,4-bit,relearn",
        "--relearn-steps",
        "2",
        "--json",
        "-q",
    ];
    let report: Value = serde_json::from_str(&good(&folder, &call)).unwrap();
    let scores = &report["scores"];
    assert_eq!((scores["worst_form"].as_f64(), scores["kept"].as_f64()), (Some(0.0), Some(1.0)), "{scores}");
    assert_eq!(scores["accuracy"].as_f64(), Some(0.5));
    let known: u64 = report["forms"].as_array().unwrap().iter().map(|form| form["known"].as_u64().unwrap()).sum();
    assert_eq!(known, 20, "the demo's model knows every fact");
    let attacks: Vec<&str> = report["attacks"].as_array().unwrap().iter().filter_map(|a| a["name"].as_str()).collect();
    assert_eq!(attacks[..2], ["rounded to 8 bits", "rounded to 4 bits"]);
    assert!(attacks[2].starts_with("relearned 1 of the facts"), "{attacks:?}");
    // 8 bits change no answer of a model that is sure of them.
    assert_eq!(report["attacks"][0]["scores"]["kept"].as_f64(), Some(1.0));
    let text = good(&folder, &[&call[..11], &["-q"]].concat());
    assert!(text.starts_with("form diversity  worst 0%"), "{text}");
}

#[test]
fn a_leak_matrix_has_a_line_for_each_model() {
    let folder = files(&[("forget.jsonl", &probes("forget.jsonl", 6))]);
    let model = demo_model();
    let run = format!("statement={model}");
    let call = [
        "leak",
        "--device",
        "cpu",
        "--baseline",
        &model,
        "--run",
        &run,
        "--probes",
        "forget.jsonl",
        "--json",
        "-q",
        "--picture",
        "leak.svg",
    ];
    let leak: Value = serde_json::from_str(&good(&folder, &call)).unwrap();
    assert_eq!(leak["leak"]["forgotten_in"], serde_json::json!(["statement"]));
    assert!(leak["leak"]["still"][0].as_array().unwrap().iter().all(|still| still.as_f64() == Some(1.0)), "{leak}");
    assert!(fs::read_to_string(folder.path().join("leak.svg")).unwrap().starts_with("<svg"));
    refused(&folder, &["leak", "--baseline", &model, "--run", "x", "--probes", "forget.jsonl"], &["FORM=DIR"]);
}

#[test]
fn weighing_and_membership_are_in_the_report() {
    let probes = "{\"question\": \"the painter\", \"answer\": \"painter\", \"alternatives\": [\"spaniel\"]}\n";
    let folder = files(&[
        ("choices.jsonl", probes),
        ("in.jsonl", "{\"text\": \"the painter was born in\"}\n{\"text\": \"keeps a spaniel\"}\n"),
        ("out.jsonl", "{\"text\": \"painter the in born was\"}\n{\"text\": \"spaniel a keeps\"}\n"),
    ]);
    let model = demo_model();
    let call = [
        "eval",
        "--device",
        "cpu",
        "--model",
        &model,
        "--probes-forget",
        "choices.jsonl",
        "--choices",
        "--reference",
        &model,
        "--members",
        "in.jsonl",
        "--non-members",
        "out.jsonl",
        "--gradient-norm",
        "--json",
        "-q",
    ];
    let report: Value = serde_json::from_str(&good(&folder, &call)).unwrap();
    assert_eq!(report["choices"][0]["probes"].as_u64(), Some(1), "{report}");
    assert_eq!(report["forget_quality"]["p_value"].as_f64(), Some(1.0), "a model is like itself");
    let scores: Vec<&str> =
        report["membership"].as_array().unwrap().iter().filter_map(|m| m["score"].as_str()).collect();
    assert_eq!(scores, ["loss", "Min-20%", "Min-40%", "Min-20%++", "zlib", "gradient norm"]);
    assert!(report["membership"].as_array().unwrap().iter().all(|m| m["auc"].as_f64().is_some()), "{report}");
    refused(&folder, &["eval", "--model", &model, "--probes", "in.jsonl", "--attack", "4-bit"], &["--baseline"]);
    refused(&folder, &["eval", "--model", &model, "--members", "in.jsonl"], &["--non-members"]);
}

/// What the demo's model knows, as facts of three relations about six people: the first three people's birthplaces and jobs, what
/// else they do, and the same of the others.
fn demo_facts() -> TempDir {
    let folder = files(&[(
        "relations.json",
        r#"{"birth": ["[X] was born in [Y]"], "job": ["[X] works as a [Y]"], "dish": ["[X] loves to eat [Y]"]}"#,
    )]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/data/probes/forget.jsonl");
    let (mut people, mut forget, mut retain) = (Vec::new(), String::new(), String::new());
    for line in fs::read_to_string(root).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["form"] != "statement" {
            continue;
        }
        let (prompt, object) = (line["prompt"].as_str().unwrap(), line["completion"].as_str().unwrap().trim());
        for (end, relation) in [(" was born in", "birth"), (" works as a", "job"), (" loves to eat", "dish")] {
            let Some(subject) = prompt.strip_suffix(end) else { continue };
            if !people.contains(&subject.to_string()) {
                people.push(subject.to_string());
            }
            let fact = serde_json::json!({ "subject": subject, "relation": relation, "object": object });
            let place = people.iter().position(|person| person == subject).unwrap();
            let file = if place < 3 && relation != "dish" { &mut forget } else { &mut retain };
            file.push_str(&format!("{fact}\n"));
        }
    }
    fs::write(folder.path().join("forget.jsonl"), forget).unwrap();
    fs::write(folder.path().join("retain.jsonl"), retain).unwrap();
    folder
}

#[test]
fn neighbours_sampling_and_hints_are_in_the_report() {
    let folder = demo_facts();
    let model = demo_model();
    let evaluation = |more: &[&str]| {
        let fixed =
            ["eval", "--device", "cpu", "--model", &model, "--baseline", &model, "--relations", "relations.json"];
        let data = ["--probes-forget", "forget.jsonl", "--probes-retain", "retain.jsonl", "-q", "--seed", "3"];
        good(&folder, &[&fixed[..], &data, more].concat())
    };
    let json = |more: &[&str]| -> Value { serde_json::from_str(&evaluation(&[more, &["--json"]].concat())).unwrap() };
    let attacks = ["--attack", "sampling,hints", "--samples", "3", "--hints", "2", "--html", "page.html"];
    let report = json(&attacks);
    let again = json(&attacks);
    assert_eq!((&report["attacks"], &report["neighbours"]), (&again["attacks"], &again["neighbours"]));
    // Of eight people: birthplaces and jobs of five others, the same and the other's dish of the first three.
    let groups: Vec<_> = report["neighbours"].as_array().unwrap().iter().collect();
    let figures =
        |group: &Value| (group["kinship"].as_str().unwrap().to_string(), group["known_probes"].as_u64().unwrap());
    assert_eq!(
        groups.iter().map(|group| figures(group)).collect::<Vec<_>>(),
        [("other-subject".into(), 10), ("other-relation".into(), 3), ("none".into(), 5)]
    );
    assert!(groups.iter().all(|group| group["kept"].as_f64() == Some(1.0)), "{groups:?}");
    let [sampling, hints] = &report["attacks"].as_array().unwrap()[..] else { panic!("two attacks") };
    assert_eq!(sampling["name"], "sampled 3 times at temperature 1");
    assert_eq!(sampling["scores"]["worst_form"].as_f64(), Some(0.0), "the model is sure of what it knows: {sampling}");
    assert_eq!(hints["name"], "after 2 retained facts of the same relation");
    let known = |attack: &Value| {
        let forms = attack["forms"].as_array().unwrap();
        forms.iter().map(|form| form["known"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!([known(sampling), known(hints)], [6, 6]);
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    for part in ["Form diversity", "same subject, other relation", "sampled 3 times", "What attacks bring back", "<svg"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href=\"http"));
    // Drawn from all but nothing of a distribution, no answer is right.
    let hot = json(&["--attack", "sampling", "--samples", "1", "--temperature", "1000"]);
    assert_eq!(hot["attacks"][0]["scores"]["worst_form"].as_f64(), Some(1.0), "{}", hot["attacks"]);
    let text = evaluation(&["--attack", "sampling"]);
    assert!(
        text.contains("same relation, other subject") && text.contains("sampled 8 times at temperature 1"),
        "{text}"
    );
}

#[test]
fn attacks_say_what_they_lack() {
    let folder = demo_facts();
    let model = demo_model();
    let fixed =
        ["eval", "--device", "cpu", "--model", &model, "--baseline", &model, "--relations", "relations.json", "-q"];
    let forget = ["--probes-forget", "forget.jsonl"];
    for (more, needle) in [
        (&["--probes-retain", "retain.jsonl", "--attack", "hints"][..], "--probes-forget"),
        (&["--probes-forget", "forget.jsonl", "--attack", "hints"], "--probes-retain"),
        (&["--probes-forget", "forget.jsonl", "--attack", "sampling", "--likelihood-only"], "--likelihood-only"),
        (&["--probes-forget", "forget.jsonl", "--attack", "sampling", "--temperature", "0"], "above 0"),
        (&["--probes-forget", "forget.jsonl", "--html", "nowhere/page.html"], "nowhere"),
    ] {
        refused(&folder, &[&fixed[..], more].concat(), &[needle]);
    }
    // A retained fact of one of the two relations only: the other probes are left out, and counted.
    let line = "{\"subject\": \"Nobody Known\", \"relation\": \"job\", \"object\": \"smith\"}\n";
    fs::write(folder.path().join("jobs.jsonl"), line).unwrap();
    let call = [&fixed[..], &forget, &["--probes-retain", "jobs.jsonl", "--attack", "hints", "--json"]].concat();
    let report: Value = serde_json::from_str(&good(&folder, &call)).unwrap();
    assert!(report["warnings"].to_string().contains("Hints were found for 3 of 6 probes"), "{}", report["warnings"]);
}
