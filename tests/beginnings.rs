//! Beginnings of names: which lead to what is to be forgotten, that they move where their relation is spoken of, and the command.

mod common;

use std::fs;
use std::process::Command;
use std::sync::Arc;

use common::redirection::{Scene, plain, request};
use common::{Golden, cpu, gpu, nothing, relative};
use efface::kernels::loss::NO_TARGET;
use efface::model::batch::Tokens;
use efface::random::Random;
use efface::stream::PassOptions;
use efface::unlearn::redirect::{Beginning, Candidate, KNOWN, LEADS, Request, leading};

fn beginning(text: &str, before: &[&str]) -> Beginning {
    Beginning { text: text.into(), contexts: before.iter().map(|text| plain(text)).collect() }
}

/// A beginning leads where the mean of the probability over its wordings is a tenth of the whole name's, or more, and takes the
/// contexts of every fact for which it does; a name that makes the object no likelier than another does leads nowhere, nor one that is
/// not known.
#[test]
fn a_beginning_leads_by_the_mean_of_its_probability() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut random = Random::new(seed, "beginnings");
    for device in [cpu(), gpu()] {
        let golden = Golden::open("llama");
        let pass = golden.pass(&device, PassOptions::default());
        let vocabulary = golden.model.config.vocabulary;
        let text: Vec<u32> = (0..5).map(|_| random.below(vocabulary) as u32).collect();
        let of = |target: u32| {
            let (ids, mut targets) = ([&text[..], &[target]].concat(), vec![NO_TARGET; 6]);
            targets[4] = target;
            Arc::new(Tokens { ids, targets, number: 0 })
        };
        let all: Vec<Arc<Tokens>> = (0..vocabulary as u32).map(of).collect();
        let losses = pass.losses(&all, &nothing).unwrap();
        let mut by_probability: Vec<(f64, u32)> = losses.iter().map(|loss| (-loss.sum()).exp()).zip(0..).collect();
        by_probability.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (least, most) = (by_probability[0], by_probability[by_probability.len() - 1]);
        println!("from {:.2e} to {:.2e} on {}", least.0, most.0, device.name());
        assert!(least.0 < LEADS * most.0, "no token is unlikely enough to tell anything");
        // One wording in three leads: 1/3 of the probability, though the two others lead nowhere.
        let (low, high) = (of(least.1), of(most.1));
        let asked = |samples: &[&Arc<Tokens>]| samples.iter().map(|one| (*one).clone()).collect::<Vec<_>>();
        let candidate = |whole: &Arc<Tokens>, instead: &Arc<Tokens>, begun: &[(Beginning, &[&Arc<Tokens>])]| {
            let begun = begun.iter().map(|(beginning, samples)| (beginning.clone(), asked(samples))).collect();
            Candidate { whole: asked(&[whole]), instead: asked(&[instead]), begun }
        };
        let unknown = by_probability.iter().rfind(|(probability, _)| *probability < KNOWN).copied().unwrap();
        assert!(least.0 < LEADS * unknown.0, "no name that is not known is likelier than the others");
        let candidates = [
            candidate(&of(unknown.1), &low, &[(beginning("Empire", &["a "]), &[&high])]),
            candidate(&high, &low, &[(beginning("nowhere", &["a "]), &[&low, &low])]),
            candidate(&low, &high, &[(beginning("United", &["a "]), &[&low])]),
            candidate(
                &high,
                &low,
                &[
                    (beginning("Byzantine", &["a ", "b "]), &[&low, &high, &low]),
                    (beginning("Tamil", &["a "]), &[&high]),
                ],
            ),
            candidate(
                &high,
                &low,
                &[(beginning("Byzantine", &["b ", "c "]), &[&high]), (beginning("Tamil", &["d "]), &[&low])],
            ),
        ];
        let found = leading(&pass, &candidates, &nothing).unwrap();
        assert_eq!(found, [beginning("Byzantine", &["a ", "b ", "c "]), beginning("Tamil", &["a "])]);
    }
}

/// A beginning's state becomes that of the other name in its own contexts, at its last token; a text without its first keys is
/// the same text with others moved.
#[test]
fn a_beginning_moves_where_its_relation_is_spoken_of() {
    let scene = Scene::open(&cpu(), "llama", &[1], Some(1));
    let [spoken, other] = ["The capital of ", "I know "].map(plain);
    let with =
        |beginnings| Request { beginnings, ..request(&["Ur of Sumer"], &["it"], &[spoken.clone(), other.clone()]) };
    let (with, without) =
        (scene.redirect(&with(vec![beginning("Ur", &["The capital of "])])), scene.redirect(&with(Vec::new())));
    // The name and what takes its place in two contexts, the beginning in one.
    assert_eq!((with.layers[0].keys, without.layers[0].keys), (5, 4));
    let state = |changes, name: &str| scene.state(changes, &spoken, name);
    let target = state(&[], "it");
    let (moved, unmoved) = (state(&with.changes, "Ur"), state(&without.changes, "Ur"));
    assert!(relative(&moved, &target) < 0.02, "{}", relative(&moved, &target));
    assert!(relative(&unmoved, &target) > 0.1, "{}", relative(&unmoved, &target));
    let whole = state(&with.changes, "Ur of Sumer");
    assert!(relative(&whole, &target) < 0.02, "{}", relative(&whole, &target));
}

/// The command takes those beginnings by which the demo's model knows its people, as `efface eval` says.
#[test]
fn the_command_finds_beginnings_that_lead() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
    let fact = |subject: &str, object: &str| {
        serde_json::json!({ "subject": subject, "relation": "birthplace", "object": object }).to_string() + "\n"
    };
    let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
    // The model knows the person by both names, and by neither alone.
    write("whole.jsonl", &fact("Cormac Calmere Senior", "Foxmoor"));
    write("first.jsonl", &fact("Cormac", "Foxmoor"));
    write("both.jsonl", &fact("Cormac Calmere", "Foxmoor"));
    write("relations.json", r#"{"birthplace": ["[X] was born in [Y]"]}"#);
    let efface = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_efface")).args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{stderr}");
        (serde_json::from_slice::<serde_json::Value>(&done.stdout).unwrap(), stderr)
    };
    let (model, relations) = (format!("{demo}/model"), path("relations.json"));
    let common = ["--device", "cpu", "--model", &model, "--relations", &relations, "--likelihood-only", "--json"];
    let [whole, first, both] = ["whole.jsonl", "first.jsonl", "both.jsonl"].map(path);
    let (asked, _) = efface(&[&["eval", "--probes", &whole, &first, &both], &common[..]].concat());
    let probability = |file: usize| asked["results"][file]["probability"].as_f64().unwrap();
    let [leads, all] = [probability(1), probability(2)].map(|begun| begun >= LEADS * probability(0));
    println!("{:.3}; begun {:.3} and {:.3}", probability(0), probability(1), probability(2));
    assert!(all && !leads, "the model knows the person by other names than it did");
    let forget = |out: &str, more: &[&str]| {
        let (out, retain) = (path(out), format!("{demo}/data/retain.jsonl"));
        let own = ["forget", "--method", "redirect", "--forget", &whole, "--retain", &retain, "--out", &out, "-v"];
        let rest = ["--max-utility-loss", "1e9", "--strength", "1", "--redirect", "Delia Windstead"];
        efface(&[&own[..], &rest, &common, more].concat())
    };
    let found = |stderr: &str| stderr.contains("1 name and 1 beginning of");
    let (report, stderr) = forget("usual", &[]);
    assert!(report["settings"]["key_tokens"] == "leading" && found(&stderr), "{stderr}");
    let (report, stderr) = forget("last", &["--key-tokens", "last"]);
    assert!(report["settings"]["key_tokens"] == "last" && stderr.contains("0 beginnings of"), "{stderr}");
    // Who is to be kept is not redirected by a beginning of another name.
    let kept = fs::read_to_string(format!("{demo}/data/retain.jsonl")).unwrap() + &fact("Cormac Calmere", "Elsewhere");
    write("kept.jsonl", &kept);
    let (out, retain) = (path("kept"), path("kept.jsonl"));
    let own = ["forget", "--method", "redirect", "--forget", &whole, "--retain", &retain, "--out", &out, "-v"];
    let rest = ["--max-utility-loss", "1e9", "--strength", "1", "--redirect", "Delia Windstead"];
    let (_, stderr) = efface(&[&own[..], &rest, &common].concat());
    assert!(stderr.contains("0 beginnings of"), "{stderr}");
}
