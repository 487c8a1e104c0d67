//! `efface demo` keeps its promise: what was to be forgotten is gone in every form, those who stay are still known.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The share of exact answers and of probability that a form keeps.
fn kept(probe: &Value) -> [f64; 2] {
    ["exact_match", "probability"].map(|figure| {
        let figure = &probe[figure];
        figure["after"].as_f64().unwrap() / figure["before"].as_f64().unwrap()
    })
}

#[test]
fn forgets_in_every_form_and_keeps_the_rest() {
    let root = TempDir::new().unwrap();
    let out = root.path().join("demo");
    let run = |command: &mut Command| command.stdin(Stdio::null()).output().unwrap();
    let efface = || Command::new(env!("CARGO_BIN_EXE_efface"));
    let output = run(efface().args(["demo", "--device", "cpu", "--out"]).arg(&out));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&fs::read(out.join("report/report.json")).unwrap()).unwrap();

    // One screen of text: the call, the scores, a line for each of ten forms, the leak matrix, what comes next.
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() < 60, "{text}");
    for part in ["form diversity  worst", "accuracy", "\ncloze", "others known", "five forms", "efface revert"] {
        assert!(text.contains(part), "no {part} in {text}");
    }

    let probes = report["probes"].as_array().unwrap();
    let (gone, stays): (Vec<_>, Vec<_>) = probes.iter().partition(|probe| probe["role"] == "forget");
    assert_eq!((gone.len(), stays.len()), (20, 20));
    // Every form is told in the forget set, or it is not: most are not.
    assert_eq!(gone.iter().filter(|probe| probe["held_out"] == true).count(), 15);
    for probe in &gone {
        assert!(probe["probability"]["before"].as_f64().unwrap() > 0.9, "{probe} was never known");
        assert!(kept(probe).iter().all(|kept| *kept <= 0.15), "{probe}");
    }
    for figure in 0..2 {
        let mean = stays.iter().map(|probe| kept(probe)[figure]).sum::<f64>() / stays.len() as f64;
        assert!(mean >= 0.90, "{mean} is kept");
    }
    // What leaks: five forms alone, and the demo's own removal, each asked in the other words of five forms.
    let leak = &report["leak"];
    let lines = leak["still"].as_array().unwrap();
    assert_eq!((lines.len(), leak["asked_in"].as_array().unwrap().len()), (6, 5), "{leak}");
    assert!(leak["known"].as_array().unwrap().iter().all(|known| known.as_u64() == Some(40)), "{leak}");
    // Whatever the form, most is gone in all of them; the last line is that of the edited model.
    let shares =
        |line: &Value| line.as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).collect::<Vec<_>>();
    assert!(lines.iter().flat_map(shares).all(|share| share < 0.5), "{leak}");
    for (asked, share) in leak["asked_in"].as_array().unwrap().iter().zip(shares(&lines[5])) {
        let form = format!("{}, reworded", asked.as_str().unwrap());
        let score = report["forms"].as_array().unwrap().iter().find(|score| score["form"] == form.as_str()).unwrap();
        assert_eq!(score["still"].as_u64(), Some((share * 40.0).round() as u64), "{form}");
    }
    let page = fs::read_to_string(out.join("report/report.html")).unwrap();
    assert!(page.contains("What leaks into other forms") && page.contains("Before and after"));
    assert!(
        page.contains("<svg") && !page.contains("<script") && !page.contains("src=") && !page.contains("href=\"http")
    );

    // Its directory is taken now; the edited model can be undone.
    let again = run(efface().args(["demo", "--device", "cpu", "--out"]).arg(&out));
    assert_eq!(again.status.code(), Some(2));
    let restored = out.join("restored");
    let files = ["--model", "edited", "--patch", "removal.patch", "--out", "restored"];
    assert!(run(efface().arg("revert").args(files).current_dir(&out)).status.success());
    let weights = |path: &std::path::Path| fs::read(path.join("model.safetensors")).unwrap();
    assert!(weights(&restored) == weights(&out.join("model")));
}
