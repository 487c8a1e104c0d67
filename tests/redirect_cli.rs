//! `efface forget --method redirect`: a person of the demo's, a change that is repaired, wrong calls, and what cannot be reversed.

use std::fs;
use std::process::{Command, Output};

fn forget(arguments: &[&str]) -> Output {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
    let [model, forget, retain] =
        ["model", "data/forget.jsonl", "data/retain.jsonl"].map(|name| format!("{demo}/{name}"));
    Command::new(env!("CARGO_BIN_EXE_efface"))
        .args(["forget", "--device", "cpu", "--model", &model, "--forget", &forget, "--retain", &retain])
        .args(["--likelihood-only", "--method", "redirect"])
        .args(arguments)
        .output()
        .unwrap()
}

/// The command on the demo's people: a patch that goes back, a covariance that is used again, and the same bytes.
#[test]
fn the_command_redirects_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (cache, patch) = (path("c.safetensors"), path("patch"));
    let mut sums = Vec::new();
    for out in ["a", "b"] {
        let out = path(out);
        let mut arguments =
            vec!["--concept", "Cormac Calmere", "--redirect", "Bettina Calton", "--max-utility-loss", "9"];
        arguments.extend(["--covariance", &cache, "--strength", "1", "--layers", "0,1", "--out", &out]);
        if sums.is_empty() {
            arguments.extend(["--patch", &patch]);
        }
        let done = forget(&arguments);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        sums.push(fs::read(format!("{out}/model.safetensors")).unwrap());
    }
    assert!(sums[0] == sums[1], "the cached covariance gives other bytes");
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");
    assert!(fs::read(format!("{demo}/model.safetensors")).unwrap() != sums[0]);
    // Factors, not elements.
    let file = efface::checkpoint::TensorFile::open(std::path::Path::new(&patch)).unwrap();
    assert_eq!(file.metadata()["version"], "2");
    assert!(file.tensors().all(|tensor| !tensor.name.starts_with("new/")));
    assert!(fs::metadata(&patch).unwrap().len() < sums[0].len() as u64 / 8);
    let again = path("again");
    let apply = Command::new(env!("CARGO_BIN_EXE_efface"))
        .args([
            "apply",
            "--model",
            concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model"),
            "--patch",
            &patch,
            "--out",
            &again,
        ])
        .output()
        .unwrap();
    assert!(apply.status.success(), "{}", String::from_utf8_lossy(&apply.stderr));
    assert!(fs::read(format!("{again}/model.safetensors")).unwrap() == sums[0]);
    let back = path("back");
    let revert = Command::new(env!("CARGO_BIN_EXE_efface"))
        .args(["revert", "--model", &path("a"), "--patch", &patch, "--out", &back])
        .output()
        .unwrap();
    assert!(revert.status.success(), "{}", String::from_utf8_lossy(&revert.stderr));
    assert!(
        fs::read(format!("{back}/model.safetensors")).unwrap()
            == fs::read(format!("{demo}/model.safetensors")).unwrap()
    );
}

/// What is repaired afterwards need not be harmless before: all of the change is taken; where the repair does not bring it within
/// the limit, one with a larger ridge that is harmless by itself, as where nothing is repaired.
#[test]
fn a_change_that_is_repaired_is_taken_whole_if_that_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let strength = |name: &str, limit: f64, more: &[&str]| {
        let (out, report) = (path(&format!("{name}-out")), path(name));
        // Without regard to ordinary text, so that it harms.
        let own = ["--concept", "Cormac Calmere", "--concept", "Bettina Calton", "--redirect", "Delia Windstead"];
        let own = [&own[..], &["--layers", "0,1", "--bound", "1e6", "--ridge", "1e-4"]].concat();
        let limit = limit.to_string();
        let rest = ["--max-utility-loss", &limit, "--out", &out, "--report", &report];
        let done = forget(&[&own[..], &rest, more].concat());
        let text = fs::read_to_string(format!("{report}/report.json"))
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr)));
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let trials = report["training"].as_array().unwrap().iter().filter(|trial| trial["repair"] == false);
        let of = |name: &str| trials.clone().map(|trial| trial[name].as_f64().unwrap()).collect::<Vec<_>>();
        let loss = |name: &str| report["guard"][name].as_f64().unwrap();
        let rise = (loss("loss_after") - loss("loss_before")) / loss("loss_before").max(1.0);
        let ridges: Vec<Option<f64>> = trials.clone().map(|trial| trial["ridge"].as_f64()).collect();
        (ridges, of("loss_rise")[0], rise)
    };
    let repair = ["--recalibrate", "24"];
    let (ridges, whole, mended) = strength("whole", 1e6, &repair);
    println!("the loss rises by {whole} before the repair and by {mended} after it");
    assert!(ridges == [None] && mended < whole);
    let between = (whole + mended.max(0.0)) / 2.0;
    assert_eq!(strength("between", between, &repair).0, [None]);
    let searched = |(ridges, _, rise): (Vec<Option<f64>>, f64, f64)| {
        println!("ridges {ridges:?}, the loss rises by {rise}");
        assert!(ridges.len() > 1 && ridges[0] == Some(1e-4), "{ridges:?}");
        assert!(ridges[1..].iter().all(|ridge| ridge.is_some_and(|ridge| ridge > 1e-4)), "{ridges:?}");
        rise
    };
    assert!(searched(strength("alone", between, &[])) <= between);
    searched(strength("too little", mended.max(0.0) / 4.0, &repair));
}

#[test]
fn what_is_wrong_with_a_call_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    let empty = folder.path().join("empty.txt").display().to_string();
    fs::write(&empty, "\n \n").unwrap();
    let with = |more: &[&str]| forget(&[&["--out", &out], more].concat());
    for (arguments, says) in [
        (&[][..], "--concept"),
        (&["--concept", " "], "empty"),
        (&["--concept", "A", "--layers", "77"], "no layer 77"),
        (&["--concept", "A", "--layers", "1,1"], "named once"),
        (&["--concept", "A", "--bound", "0"], "--bound"),
        (&["--concept", "A", "--ridge", "nan"], "--ridge"),
        (&["--concept", "A", "--strength", "2"], "--strength"),
        (&["--concept", "A", "--alpha", "2"], "--alpha"),
        (&["--concept", "A", "--text", &empty], "empty.txt"),
        (&["--concept", "A", "--reversed", "on"], "--forget has no facts"),
        (&["--concept", "A", "--layers", "0", "--skip", "*down_proj*"], "must not change"),
    ] {
        let failed = with(arguments);
        let stderr = String::from_utf8_lossy(&failed.stderr);
        assert!(failed.status.code() == Some(2) && stderr.contains(says), "{arguments:?}: {stderr}");
        assert!(!folder.path().join("out").exists());
    }
}

/// What belongs to several subjects, what a retained fact speaks of, and what no wording reverses is left as it is, and said.
#[test]
fn objects_that_cannot_be_reversed_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let fact = |subject: &str, relation: &str, object: &str| {
        serde_json::json!({ "subject": subject, "relation": relation, "object": object }).to_string()
    };
    let person = "Cormac Calmere";
    fs::write(
        path("forget.jsonl"),
        [
            fact(person, "birthplace", "Foxmoor"),
            fact(person, "job", "painter"),
            fact("Bettina Calton", "job", "painter"),
            fact(person, "plays", "trumpet"),
            fact(person, "eats", "pierogi"),
        ]
        .join("\n"),
    )
    .unwrap();
    let retain = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/data/retain.jsonl")).unwrap();
    let mut retain: Vec<String> = retain.lines().take(30).map(String::from).collect();
    retain.push(fact("Delia Windstead", "eats", "pierogi"));
    retain.push(fact("trumpet", "job", "teacher"));
    fs::write(path("retain.jsonl"), retain.join("\n")).unwrap();
    let table = serde_json::json!({
        "birthplace": ["[X] was born in [Y]", "In [Y] was born [X]", "At [Y] was born [X]"],
        "job": ["[X] works as a [Y]", "The [Y] is [X]"], "plays": ["[X] plays the [Y]", "The [Y] of [X]"],
        "eats": ["[X] loves to eat [Y]"],
    });
    fs::write(path("relations.json"), table.to_string()).unwrap();
    let run = |out: &str, more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_efface"))
            .args(["forget", "--device", "cpu", "--model", concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model"), "-v"])
            .args(["--forget", &path("forget.jsonl"), "--retain", &path("retain.jsonl"), "--method", "redirect"])
            .args(["--relations", &path("relations.json"), "--likelihood-only", "--max-utility-loss", "1e9"])
            .args(["--strength", "1", "--redirect", "Delia Windstead", "--out", &path(out), "--json"])
            .args(more)
            .output()
            .unwrap()
    };
    let (on, off) = (run("on", &[]), run("off", &["--reversed", "off"]));
    let stderr = String::from_utf8_lossy(&on.stderr).into_owned();
    assert!(on.status.success() && off.status.success(), "{stderr}");
    // What takes the names' place stays anyway; of the facts to be kept, the other one's subject is held.
    assert!(stderr.contains("1 object no longer lead") && stderr.contains("back; 1 name held"), "{stderr}");
    let report: serde_json::Value = serde_json::from_slice(&on.stdout).unwrap();
    let counted = |name: &str| report["redirected"][name].as_u64().unwrap();
    assert_eq!(["names", "objects", "held"].map(counted), [2, 1, 1]);
    assert!(report["redirected"]["layers"][0]["reached"].as_f64().is_some_and(|reached| reached > 0.0));
    let warnings = report["warnings"].to_string();
    for says in ["belongs to several subjects", "a fact to be kept speaks of the object"] {
        assert!(warnings.contains(says), "{says}: {warnings}");
    }
    let weights = |out: &str| fs::read(folder.path().join(out).join("model.safetensors")).unwrap();
    assert!(weights("on") != weights("off"));
}
