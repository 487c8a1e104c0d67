//! `efface forget` on golden checkpoints: what changes is what the formula says and nothing else, on both devices and under
//! the smallest budget; what it refuses leaves nothing behind.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::{directory, numbers};
use efface::Element;
use efface::checkpoint::{Checkpoint, TensorFile};
use tempfile::TempDir;

const BUDGET: &str = "the smallest that works here is ";

/// A checkpoint, two samples to forget and the others to retain, and room for what comes of it.
struct Case {
    root: TempDir,
    model: PathBuf,
}

impl Case {
    fn of(name: &str) -> Self {
        let root = TempDir::new().unwrap();
        let data = fs::read_to_string(directory(name).join("data.jsonl")).unwrap();
        let lines: Vec<&str> = data.lines().collect();
        fs::write(root.path().join("forget.jsonl"), lines[..2].join("\n")).unwrap();
        fs::write(root.path().join("retain.jsonl"), lines[2..].join("\n")).unwrap();
        Case { root, model: directory(name).join("checkpoint") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Runs a command with the model; `@name` stands for a path in the case's directory.
    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        let argument = |argument: &&str| match argument.strip_prefix('@') {
            Some(name) => self.path(name).into_os_string(),
            None => argument.into(),
        };
        Command::new(env!("CARGO_BIN_EXE_efface"))
            .args([command, "--model"])
            .arg(&self.model)
            .args(arguments.iter().map(argument))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    #[track_caller]
    fn good(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.run(command, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command} {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn forget<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        [&["--forget", "@forget.jsonl", "--retain", "@retain.jsonl", "--likelihood-only"], more].concat()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A tensor's stored bytes.
fn bytes(checkpoint: &Checkpoint, name: &str) -> (Element, Vec<u8>) {
    let tensor = checkpoint.tensor(name).unwrap();
    (tensor.element.unwrap(), checkpoint.bytes(tensor).to_vec())
}

fn decoded((element, bytes): &(Element, Vec<u8>)) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / element.size()];
    element.decode(bytes, &mut values).unwrap();
    values
}

/// Half the distance from a stored value to its neighbours, at most, relative to it (for values that are not tiny).
fn half_ulp(element: Element) -> f64 {
    match element {
        Element::F32 => 2f64.powi(-24),
        Element::F16 => 2f64.powi(-11),
        Element::Bf16 => 2f64.powi(-8),
    }
}

/// What becomes of a checkpoint, element by element, in double precision: `F_f > alpha F` is multiplied by
/// `min(lambda F / F_f, 1)`. Returns how many were selected.
fn check_formula(case: &Case, out: &str, forget: &TensorFile, retain: &TensorFile, alpha: f64, lambda: f64) -> u64 {
    let (old, new) = (Checkpoint::open(&case.model).unwrap(), Checkpoint::open(&case.path(out)).unwrap());
    let mut selected = 0;
    for tensor in old.tensors() {
        if tensor.element.is_none() {
            assert_eq!(old.bytes(tensor), new.bytes(new.tensor(&tensor.name).unwrap()), "{}", tensor.name);
            continue;
        }
        let (before, after) = (bytes(&old, &tensor.name), bytes(&new, &tensor.name));
        // A copy of a tied weight has no importance of its own, and a buffer none at all.
        let measured =
            if forget.tensor(&tensor.name).is_some() { tensor.name.as_str() } else { "model.embed_tokens.weight" };
        if forget.tensor(measured).is_none_or(|t| t.shape != tensor.shape) {
            assert_eq!(before.1, after.1, "{}", tensor.name);
            continue;
        }
        let (f, r) = (numbers(forget, measured), numbers(retain, measured));
        let (values, changed, size) = (decoded(&before), decoded(&after), before.0.size());
        for i in 0..values.len() {
            let (f, r, old_value, new_value) =
                (f64::from(f[i]), f64::from(r[i]), f64::from(values[i]), f64::from(changed[i]));
            let same = before.1[i * size..][..size] == after.1[i * size..][..size];
            if f == 0.0 || f < alpha * r * (1.0 - 1e-6) {
                assert!(same, "{} {i}: {old_value} became {new_value} with the ratio {}", tensor.name, f / r);
            } else if f > alpha * r * (1.0 + 1e-6) {
                selected += 1;
                let expected = old_value * (lambda * r / f).min(1.0);
                let error = (new_value - expected).abs();
                // The factor is computed in single precision: a few of its roundings, and the one of the stored value.
                let allowed = expected.abs() * (half_ulp(before.0) * 1.01 + 4.0 * 2f64.powi(-24)) + 1e-37;
                assert!(error <= allowed.max(smallest(before.0)), "{} {i}: {new_value} for {expected}", tensor.name);
            }
        }
    }
    selected
}

/// The spacing of the smallest stored values.
fn smallest(element: Element) -> f64 {
    if element == Element::F16 { 2f64.powi(-25) } else { 1e-37 }
}

fn measured(case: &Case, device: &str) -> (TensorFile, TensorFile) {
    for set in ["forget", "retain"] {
        let (data, out) = (format!("@{set}.jsonl"), format!("@{set}.safetensors"));
        case.good("fisher", &["--device", device, "--data", &data, "--out", &out, "-q"]);
    }
    let open = |name| TensorFile::open(&case.path(name)).unwrap();
    (open("forget.safetensors"), open("retain.safetensors"))
}

#[test]
fn selected_elements_follow_the_formula_and_all_others_keep_their_bits() {
    let mut cases = 0;
    for (name, alpha, lambda) in [
        ("llama", "1.5", "1"),
        ("llama-bf16", "0.7", "0.5"),
        ("llama-tied-twice", "2", "1"),
        ("qwen2-f16", "1.1", "2"),
        ("gpt2-old", "3", "0.25"),
        ("mistral-sharded", "1", "1"),
    ] {
        for device in ["cpu", "gpu"] {
            let case = Case::of(name);
            let (forget, retain) = measured(&case, device);
            let settings = ["--method", "ssd", "--alpha", alpha, "--lambda", lambda, "--max-utility-loss", "1e9"];
            let files = ["--retain-fisher", "@retain.safetensors", "--out", "@edited", "--patch", "@patch"];
            case.good("forget", &case.forget(&[&["--device", device, "-q"], &settings[..], &files].concat()));
            let (alpha, lambda) = (alpha.parse().unwrap(), lambda.parse().unwrap());
            let selected = check_formula(&case, "edited", &forget, &retain, alpha, lambda);
            assert!(selected > 100, "{name}: {selected} elements are no test");
            // Back again, to the last bit of every file.
            let edited = Case { root: TempDir::new().unwrap(), model: case.path("edited") };
            fs::copy(case.path("patch"), edited.path("patch")).unwrap();
            edited.good("revert", &["--patch", "@patch", "--out", "@back"]);
            for entry in fs::read_dir(&case.model).unwrap() {
                let file = entry.unwrap().file_name();
                let [was, is] =
                    [case.model.join(&file), edited.path("back").join(&file)].map(|path| fs::read(path).unwrap());
                assert!(was == is, "{name}: {file:?} differs after reverting");
            }
            cases += 1;
        }
    }
    assert_eq!(cases, 12);
}

#[test]
fn the_default_stays_within_the_limit_and_says_what_it_did() {
    let case = Case::of("llama");
    let given = ["--device", "cpu", "--out", "@edited", "--report", "@report", "--json"];
    let output = case.run("forget", &case.forget(&given));
    // Random weights: whether something helps is for the search to find out, but it must say so either way.
    let json: serde_json::Value = serde_json::from_slice(&fs::read(case.path("report/report.json")).unwrap()).unwrap();
    let guard = &json["guard"];
    let (before, after) = (guard["loss_before"].as_f64().unwrap(), guard["loss_after"].as_f64().unwrap());
    assert!(json["search"].as_array().unwrap().len() >= 2);
    if output.status.success() {
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["model"], json["model"]);
        assert!((after - before) / before.max(1.0) <= 0.02 + 1e-9 && guard["accepted"] == true, "{guard}");
        let edited = Checkpoint::open(&case.path("edited")).unwrap();
        assert_eq!(json["model"]["sha256_after"], edited.sha256());
        let counted: u64 = changed(&Checkpoint::open(&case.model).unwrap(), &edited);
        let told: u64 = json["changed"].as_array().unwrap().iter().map(|c| c["changed"].as_u64().unwrap()).sum();
        assert_eq!(counted, told);
    } else {
        assert_eq!(output.status.code(), Some(1));
        assert!(!case.path("edited").exists() && json["model"]["sha256_after"].is_null());
    }
}

/// Elements whose bits differ.
fn changed(old: &Checkpoint, new: &Checkpoint) -> u64 {
    let count = |tensor: &efface::checkpoint::TensorInfo| {
        let (before, after) = (bytes(old, &tensor.name), bytes(new, &tensor.name));
        let size = before.0.size();
        before.1.chunks(size).zip(after.1.chunks(size)).filter(|(a, b)| a != b).count() as u64
    };
    old.tensors().map(count).sum()
}

#[test]
fn on_a_gpu_the_smallest_budget_gives_the_same_bytes() {
    let case = Case::of("mistral");
    let settings = ["--device", "gpu", "--method", "ssd", "--alpha", "1", "--max-utility-loss", "1e9", "-q"];
    let forget = |out: &str, memory: &str| {
        let output = case.run("forget", &case.forget(&[&settings[..], &["--out", out, "--memory", memory]].concat()));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(forget("@whole", "4GiB").0, Some(0));
    let (status, line) = forget("@none", "1KiB");
    assert_eq!(status, Some(2), "{line}");
    let smallest: u64 = line.split(BUDGET).nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert_eq!(forget("@none", &(smallest - 1).to_string()).0, Some(2));
    assert_eq!(forget("@small", &smallest.to_string()), (Some(0), String::new()));
    let weights = |name: &str| fs::read(case.path(name).join("model.safetensors")).unwrap();
    assert!(weights("whole") == weights("small"));
    assert!(weights("whole") != fs::read(case.model.join("model.safetensors")).unwrap());
    assert!(!case.path("none").exists());
}

/// Losses and answers have plans of their own; the budget that is named does for both.
#[test]
fn eval_names_a_budget_that_works() {
    for (name, device) in [("llama", "gpu"), ("gpt2", "gpu"), ("qwen3", "cpu")] {
        let case = Case::of(name);
        let eval =
            |memory: &str| case.run("eval", &["--device", device, "--probes", "@retain.jsonl", "--memory", memory]);
        let refused = eval("1KiB");
        let line = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{line}");
        let smallest: u64 = line.split(BUDGET).nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(eval(&(smallest - 1).to_string()).status.code(), Some(2));
        let output = eval(&smallest.to_string());
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn filters_and_granularity_decide_what_changes() {
    for (more, allowed) in [
        (vec!["--only", "*mlp*", "--skip", "*down_proj*"], ["gate_proj", "up_proj"].as_slice()),
        (vec!["--granularity", "row", "--only", "*q_proj*"], &["q_proj"]),
        (vec!["--granularity", "column", "--only", "*down_proj*"], &["down_proj"]),
        (vec!["--granularity", "tensor", "--skip", "*embed*"], &["layers", "lm_head", "norm"]),
        (vec!["--granularity", "head"], &["self_attn"]),
    ] {
        let case = Case::of("qwen3");
        let given =
            ["--device", "cpu", "--method", "ssd", "--alpha", "1", "--max-utility-loss", "1e9", "--out", "@edited"];
        case.good("forget", &case.forget(&[&given[..], &["-q", "--patch-forward", "@patch"], &more].concat()));
        let (old, new) = (Checkpoint::open(&case.model).unwrap(), Checkpoint::open(&case.path("edited")).unwrap());
        let mut found = 0;
        for tensor in old.tensors() {
            let same = bytes(&old, &tensor.name) == bytes(&new, &tensor.name);
            assert!(same || allowed.iter().any(|part| tensor.name.contains(part)), "{more:?} changed {}", tensor.name);
            found += usize::from(!same);
        }
        assert!(found > 0, "{more:?} changed nothing");
        // A patch without old values cannot be reverted.
        let edited = Case { root: TempDir::new().unwrap(), model: case.path("edited") };
        fs::copy(case.path("patch"), edited.path("patch")).unwrap();
        assert_eq!(edited.run("revert", &["--patch", "@patch", "--out", "@back"]).status.code(), Some(2));
    }
}

#[test]
fn wrong_calls_are_one_line_and_leave_nothing_behind() {
    let case = Case::of("llama");
    measured(&case, "cpu");
    fs::write(case.path("one.jsonl"), fs::read_to_string(case.path("retain.jsonl")).unwrap().lines().next().unwrap())
        .unwrap();
    case.good(
        "fisher",
        &["--device", "cpu", "--data", "@retain.jsonl", "--kind", "abs", "--out", "@abs.safetensors", "-q"],
    );
    fs::create_dir(case.path("taken")).unwrap();
    let both = ["--forget", "@forget.jsonl", "--retain", "@retain.jsonl"];
    let with = |more: &[&'static str]| [&both[..], &["--out", "@edited"], more].concat();
    let before = case.names();
    for (arguments, needle) in [
        (vec!["--forget", "@forget.jsonl", "--retain", "@forget.jsonl", "--out", "@edited"], "line 1"),
        (vec!["--forget", "@forget.jsonl", "--retain", "@one.jsonl", "--out", "@edited"], "one sample"),
        (vec!["--forget", "@none.jsonl", "--retain", "@retain.jsonl", "--out", "@edited"], "none.jsonl"),
        ([&both[..], &["--out", "@taken"]].concat(), "exists already"),
        (with(&["--alpha", "3"]), "--alpha belongs to --method ssd"),
        (with(&["--method", "ssd", "--alpha", "-1"]), "alpha"),
        (with(&["--method", "ssd", "--lambda", "nan"]), "lambda"),
        (with(&["--method", "ssd", "--against", "full", "--alpha", "50"]), "selects nothing"),
        (with(&["--method", "ssd-auto"]), "--dataset-size"),
        (with(&["--method", "ssd-auto", "--dataset-size", "1"]), "no part of a data set"),
        (with(&["--dataset-size", "100"]), "ssd-auto"),
        (with(&["--max-utility-loss", "-2%"]), "no share"),
        (with(&["--only", "*nothing*"]), "matches no tensor"),
        (with(&["--skip", "*"]), "leave no tensor"),
        (with(&["--only", "*norm*", "--granularity", "head"]), "no attention heads"),
        (with(&["--retain-fisher", "@abs.safetensors"]), "fisher"),
        (with(&["--retain-fisher", "@retain.safetensors", "--loss", "sum"]), "loss"),
        (with(&["--retain-fisher", "@forget.jsonl"]), "forget.jsonl"),
        (with(&["--probes-forget", "@none.jsonl"]), "none.jsonl"),
        (with(&["--patch", "@one.jsonl"]), "exists already"),
        (with(&["--patch", "@twice", "--patch-forward", "@twice"]), "two outputs"),
        (with(&["--report", "@edited"]), "two outputs"),
        (with(&["--memory", "1KiB"]), "device memory budget"),
    ] {
        let output = case.run("forget", &[&["--device", "cpu"], &arguments[..]].concat());
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
        assert!(line.lines().count() == 1 && line.contains(needle), "{arguments:?}: {line}");
        assert_eq!(case.names(), before, "{arguments:?}");
    }
    // The same retain importance for another model.
    let other = Case::of("llama-tied-twice");
    fs::copy(case.path("retain.safetensors"), other.path("retain.safetensors")).unwrap();
    let output =
        other.run("forget", &[&["--device", "cpu", "--retain-fisher", "@retain.safetensors"], &with(&[])[..]].concat());
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("model_sha256"));
}

#[test]
fn what_helps_nobody_is_refused_with_a_report_and_no_checkpoint() {
    for (more, needle) in [
        (vec!["--method", "ssd", "--alpha", "1e30", "--only", "*mlp*"], "no weight is selected"),
        (vec!["--max-utility-loss", "1e-300", "--only", "*q_norm*", "--lambda", "1e30"], "nothing would be forgotten"),
    ] {
        let case = Case::of("qwen3");
        let before = case.names();
        let given = ["--device", "cpu", "--out", "@edited", "--patch", "@patch", "--report", "@report"];
        let output = case.run("forget", &case.forget(&[&given[..], &more].concat()));
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{more:?}: {line}");
        assert!(line.lines().count() == 1 && line.contains(needle), "{more:?}: {line}");
        let mut now = case.names();
        now.retain(|name| name != "report");
        assert_eq!(now, before);
        let page = fs::read_to_string(case.path("report/report.html")).unwrap();
        assert!(page.contains("No checkpoint was written"));
    }
}

/// Killed at any moment, a run leaves nothing under the names of its outputs, or the whole of them.
#[test]
fn a_killed_run_leaves_all_or_nothing() {
    let case = Case::of("llama");
    let arguments =
        case.forget(&["--device", "cpu", "--method", "ssd", "--alpha", "1", "--max-utility-loss", "1e9", "-q"]);
    let outputs = ["--out", "@edited", "--patch", "@patch"];
    let start = std::time::Instant::now();
    case.good("forget", &[&arguments[..], &outputs].concat());
    let whole = start.elapsed();
    let weights = fs::read(case.path("edited/model.safetensors")).unwrap();
    let (mut none, mut all) = (0, 0);
    for part in 0..30 {
        for name in ["edited", "patch"] {
            let path = case.path(name);
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        let argument = |argument: &&str| match argument.strip_prefix('@') {
            Some(name) => case.path(name).into_os_string(),
            None => argument.into(),
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_efface"))
            .args(["forget", "--model"])
            .arg(&case.model)
            .args([&arguments[..], &outputs].concat().iter().map(argument))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole.mul_f64(f64::from(part) / 25.0));
        let _ = child.kill();
        child.wait().unwrap();
        if case.path("edited").exists() {
            assert!(fs::read(case.path("edited/model.safetensors")).unwrap() == weights);
            // The checkpoint comes last: its patch is there, and whole.
            efface::checkpoint::Patch::open(&case.path("patch")).unwrap();
            all += 1;
        } else {
            none += 1;
        }
    }
    println!("{none} runs left nothing, {all} left all");
    assert!(none > 0);
}
