//! The command line as a script sees it: exit status, one line on stderr, what is on stdout and what is left behind.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{directory, numbers, relative};
use efface::checkpoint::{Checkpoint, PatchKind, PatchWriter, TensorFile, write_edited};
use tempfile::TempDir;

const COMMANDS: [&str; 12] =
    ["demo", "data", "devices", "inspect", "fisher", "grads", "forget", "eval", "leak", "profile", "apply", "revert"];

fn efface(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_efface"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs a command that must succeed, and returns its stdout.
#[track_caller]
fn good(arguments: &[&str]) -> String {
    let output = efface(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {:?} {stderr}", output.status.code());
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must be refused with `status`, and returns its one line on stderr.
#[track_caller]
fn refused(arguments: &[&str], status: i32) -> String {
    let output = efface(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed {:?}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(stderr.starts_with("efface: "), "{stderr}");
    stderr
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A private copy of a golden checkpoint with its data, to be damaged.
struct Copy {
    root: TempDir,
}

impl Copy {
    fn of(name: &str) -> Self {
        let root = TempDir::new().unwrap();
        let golden = directory(name);
        fs::create_dir(root.path().join("checkpoint")).unwrap();
        for entry in fs::read_dir(golden.join("checkpoint")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), root.path().join("checkpoint").join(entry.file_name())).unwrap();
        }
        fs::copy(golden.join("data.jsonl"), root.path().join("data.jsonl")).unwrap();
        Copy { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn edit_config(&self, edit: impl FnOnce(&mut serde_json::Value)) {
        let mut config = serde_json::from_slice(&self.read("checkpoint/config.json")).unwrap();
        edit(&mut config);
        self.write("checkpoint/config.json", config.to_string());
    }

    /// All files below it.
    fn listing(&self) -> Vec<PathBuf> {
        let (mut found, mut pending) = (Vec::new(), vec![self.root.path().to_path_buf()]);
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path.clone());
                }
                found.push(path);
            }
        }
        found.sort();
        found
    }

    fn fisher(&self, out: &str, more: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = ["fisher", "--device", "cpu", "--model"].map(String::from).to_vec();
        arguments.push(text(&self.path("checkpoint")).into());
        arguments.extend(["--data".into(), text(&self.path("data.jsonl")).into()]);
        arguments.extend(["--out".into(), text(&self.path(out)).into()]);
        arguments.extend(more.iter().map(|argument| argument.to_string()));
        arguments
    }
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn help_explains_every_command() {
    let top = good(&["--help"]);
    for command in COMMANDS {
        assert!(top.contains(&format!("\n  {command} ")), "{command} is not in\n{top}");
        let help = good(&[command, "--help"]);
        for part in ["Example", "--device", "--memory", "--host-memory", "--json", "--seed", "--quiet", "--verbose"] {
            assert!(help.contains(part), "{command}: no {part} in\n{help}");
        }
    }
    assert_eq!(good(&["--version"]).trim(), format!("efface {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_call_is_one_line_and_status_2() {
    let model = directory("llama").join("checkpoint");
    let data = directory("llama").join("data.jsonl");
    let (model, data) = (text(&model), text(&data));
    let root = TempDir::new().unwrap();
    let out = root.path().join("F.safetensors");
    let out = text(&out);
    for (arguments, needle) in [
        (vec![], "which command"),
        (vec!["unlearn"], "unlearn"),
        (vec!["fisher", "--model", model], "--data"),
        (vec!["fisher", "--model", model, "--data", data, "--out", out, "--memory", "4 bananas"], "4 bananas"),
        (vec!["fisher", "--model", model, "--data", data, "--out", out, "--device", "cuda"], "cuda"),
        (vec!["fisher", "--model", model, "--data", data, "--out", out, "--device", "gpu:99"], "gpu:99"),
        (vec!["fisher", "--model", model, "--data", data, "--out", out, "--estimator", "batch:0"], "batch:0"),
        (vec!["fisher", "--model", model, "--data", data, "--out", out, "--kind", "fisher,hessian"], "hessian"),
        (vec!["fisher", "--model", model, "--data", data, "--out", "/nowhere/F.safetensors"], "/nowhere"),
        (vec!["fisher", "--model", "/nowhere", "--data", data, "--out", out], "/nowhere"),
        (vec!["fisher", "--model", model, "--data", "/nowhere.jsonl", "--out", out], "/nowhere.jsonl"),
        (vec!["fisher", "--model", model, "--data", data, "--out", out, "--quiet", "--verbose"], "--verbose"),
        (vec!["grads", "--model", model, "--data", data, "--out", out, "--tensors", "no.such*"], "no.such*"),
        (vec!["grads", "--model", model, "--data", data, "--out", out], "--tensors"),
        (vec!["inspect", model, "--samples", "0"], "0"),
        (vec!["inspect", model, "--tokens", "1000000"], "1000000"),
        (vec!["apply", "--model", model, "--patch", data, "--out", out], "data.jsonl"),
    ] {
        let line = refused(&arguments, 2);
        assert!(line.contains(needle), "{arguments:?}: {line}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "{arguments:?} left something behind");
    }
}

/// What is damaged, and what the line must name.
type Damage = (&'static str, fn(&Copy), &'static [&'static str]);

const WEIGHTS: &str = "checkpoint/model.safetensors";

/// Cuts data.jsonl to two lines and puts `line` after them.
fn third_line(copy: &Copy, line: &str) {
    let data = String::from_utf8(copy.read("data.jsonl")).unwrap();
    let mut lines: Vec<&str> = data.lines().take(2).collect();
    lines.push(line);
    copy.write("data.jsonl", lines.join("\n"));
}

/// Changes the header of the weights file, keeping its length.
fn edit_header(copy: &Copy, from: &str, to: &str) {
    let mut bytes = copy.read(WEIGHTS);
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let edited = header.replacen(from, to, 1);
    assert_ne!(edited, header);
    let padded = format!("{:length$}", edited.trim_end());
    assert_eq!(padded.len(), length);
    bytes[8..8 + length].copy_from_slice(padded.as_bytes());
    copy.write(WEIGHTS, bytes);
}

const DAMAGES: &[Damage] = &[
    (
        "truncated weights",
        |copy| {
            let bytes = copy.read(WEIGHTS);
            copy.write(WEIGHTS, &bytes[..bytes.len() - 5]);
        },
        &["model.safetensors"],
    ),
    (
        "a header length that lies",
        |copy| {
            let mut bytes = copy.read(WEIGHTS);
            bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
            copy.write(WEIGHTS, bytes);
        },
        &["model.safetensors", "header"],
    ),
    ("an empty weights file", |copy| copy.write(WEIGHTS, ""), &["model.safetensors"]),
    ("no weights", |copy| fs::remove_file(copy.path(WEIGHTS)).unwrap(), &["checkpoint"]),
    ("a misnamed tensor", |copy| edit_header(copy, "model.norm.weight", "model.nonn.weight"), &["model.norm.weight"]),
    (
        "a weight that is not finite",
        |copy| {
            let mut bytes = copy.read(WEIGHTS);
            let end = bytes.len();
            bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
            copy.write(WEIGHTS, bytes);
        },
        &["checkpoint", "finite"],
    ),
    ("no config", |copy| fs::remove_file(copy.path("checkpoint/config.json")).unwrap(), &["config.json"]),
    ("a malformed config", |copy| copy.write("checkpoint/config.json", "{\"a\": "), &["config.json"]),
    (
        "an unknown family",
        |copy| copy.edit_config(|config| config["model_type"] = "mamba".into()),
        &["config.json", "model_type", "mamba", "llama"],
    ),
    (
        "one layer more in the config",
        |copy| {
            copy.edit_config(|config| {
                config["num_hidden_layers"] = (config["num_hidden_layers"].as_u64().unwrap() + 1).into()
            })
        },
        &["model.layers.", "missing"],
    ),
    (
        "another width in the config",
        |copy| {
            copy.edit_config(|config| {
                config["intermediate_size"] = (config["intermediate_size"].as_u64().unwrap() + 1).into()
            })
        },
        &["mlp", "shape"],
    ),
    ("an empty data file", |copy| copy.write("data.jsonl", ""), &["data.jsonl"]),
    ("a blank data file", |copy| copy.write("data.jsonl", "\n\n"), &["data.jsonl"]),
    ("a malformed line", |copy| third_line(copy, "{\"input_ids\": [1, 2"), &["data.jsonl", "line 3"]),
    ("a line that is no object", |copy| third_line(copy, "[1, 2]"), &["data.jsonl", "line 3"]),
    (
        "a token outside the vocabulary",
        |copy| third_line(copy, r#"{"input_ids": [1, 99999], "labels": [1, 1]}"#),
        &["data.jsonl", "line 3", "99999"],
    ),
    (
        "a label outside the vocabulary",
        |copy| third_line(copy, r#"{"input_ids": [1, 2], "labels": [1, 88888]}"#),
        &["data.jsonl", "line 3", "88888"],
    ),
    (
        "labels of another length",
        |copy| third_line(copy, r#"{"input_ids": [1, 2, 3], "labels": [1, 2]}"#),
        &["data.jsonl", "line 3", "labels"],
    ),
    (
        "no target",
        |copy| third_line(copy, r#"{"input_ids": [1, 2], "labels": [-100, -100]}"#),
        &["data.jsonl", "line 3", "target"],
    ),
    (
        "no target left after the shift",
        |copy| third_line(copy, r#"{"input_ids": [1, 2], "labels": [1, -100]}"#),
        &["data.jsonl", "line 3", "target"],
    ),
    (
        "an ambiguous record",
        |copy| third_line(copy, r#"{"input_ids": [1, 2], "labels": [1, 2], "prompt": "a", "completion": "b"}"#),
        &["data.jsonl", "line 3"],
    ),
    ("a record of no kind", |copy| third_line(copy, r#"{"title": "x"}"#), &["data.jsonl", "line 3"]),
    (
        "a text without a tokenizer",
        |copy| third_line(copy, r#"{"text": "hello"}"#),
        &["data.jsonl", "line 3", "tokenizer"],
    ),
    (
        "a sample longer than the context",
        |copy| {
            copy.edit_config(|config| config["max_position_embeddings"] = 150.into());
        },
        &["data.jsonl", "line 3", "150"],
    ),
    ("an output that exists", |copy| copy.write("F.safetensors", "old"), &["F.safetensors", "exists"]),
];

#[test]
fn bad_input_is_one_line_and_leaves_nothing_behind() {
    for (what, damage, needles) in DAMAGES {
        let copy = Copy::of("llama");
        damage(&copy);
        let before = copy.listing();
        let line = refused(&borrowed(&copy.fisher("F.safetensors", &[])), 2);
        for needle in *needles {
            assert!(line.contains(needle), "{what}: {needle:?} is not in {line}");
        }
        assert_eq!(copy.listing(), before, "{what}: {line}");
    }
}

/// Weights so large that the loss overflows are finite, so the call is right and the work fails.
#[test]
fn a_model_that_computes_nothing_is_status_1_and_leaves_nothing_behind() {
    let copy = Copy::of("llama");
    // Logits that overflow. (Where only a norm's input does, all of it becomes zero, in PyTorch as well.)
    let base = Checkpoint::open(&copy.path("checkpoint")).unwrap();
    let mut huge = |tensor: &efface::checkpoint::TensorInfo, old: &[u8]| {
        let values = 3e38f32.to_le_bytes().repeat(old.len() / 4);
        Ok((tensor.name == "lm_head.weight").then_some(values))
    };
    write_edited(&base, &copy.path("huge"), &mut huge).unwrap();
    copy.write(WEIGHTS, copy.read("huge/model.safetensors"));
    fs::remove_dir_all(copy.path("huge")).unwrap();
    let before = copy.listing();
    let line = refused(&borrowed(&copy.fisher("F.safetensors", &[])), 1);
    assert!(line.contains("loss"), "{line}");
    assert_eq!(copy.listing(), before);
}

#[test]
fn a_missing_shard_is_named() {
    let copy = Copy::of("mistral-sharded");
    let mut shards = copy.listing().into_iter().filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    let shard = shards.next_back().unwrap();
    fs::remove_file(&shard).unwrap();
    let line = refused(&borrowed(&copy.fisher("F.safetensors", &[])), 2);
    assert!(line.contains(shard.file_name().unwrap().to_str().unwrap()), "{line}");
}

/// The budget that a refusal names.
fn named_budget(line: &str) -> String {
    let rest = line.split("the smallest that works here is ").nth(1).unwrap_or_else(|| panic!("{line}"));
    rest.split(' ').next().unwrap().to_string()
}

#[test]
fn a_small_budget_is_refused_and_the_one_it_names_works() {
    for name in ["llama", "gpt2", "qwen2"] {
        let copy = Copy::of(name);
        let memory = named_budget(&refused(&borrowed(&copy.fisher("A.safetensors", &["--memory", "1000"])), 2));
        let less = (memory.parse::<u64>().unwrap() - 1).to_string();
        refused(&borrowed(&copy.fisher("A.safetensors", &["--memory", &less])), 2);
        let arguments = ["--memory", &memory, "--host-memory", "1000"];
        let host = named_budget(&refused(&borrowed(&copy.fisher("A.safetensors", &arguments)), 2));
        let before = copy.listing();
        let arguments = ["--memory", &memory, "--host-memory", &host, "--json"];
        let said = good(&borrowed(&copy.fisher("A.safetensors", &arguments)));
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let peak = said["device"]["peak_memory"].as_u64().unwrap();
        assert!(peak > 0 && peak <= memory.parse().unwrap(), "{name}: {peak} of {memory}");
        assert_eq!(copy.listing().len(), before.len() + 1, "{name}: {:?}", copy.listing());
        good(&borrowed(&copy.fisher("B.safetensors", &[])));
        let [a, b] = ["A.safetensors", "B.safetensors"].map(|file| TensorFile::open(&copy.path(file)).unwrap());
        for tensor in a.tensors() {
            let error = relative(&numbers(&a, &tensor.name), &numbers(&b, &tensor.name));
            assert!(error < 1e-5, "{name} {}: {error:.1e} apart", tensor.name);
        }
    }
}

#[test]
fn on_a_gpu_the_budget_leaves_every_byte_as_it_is() {
    for name in ["gpt2", "qwen2"] {
        let copy = Copy::of(name);
        let run = |out: &str, more: &[&str]| {
            let mut arguments = copy.fisher(out, more);
            arguments[2] = "gpu".into();
            arguments
        };
        let small = ["--memory", "1000", "--kind", "fisher,mean"];
        let memory = named_budget(&refused(&borrowed(&run("A.safetensors", &small)), 2));
        let small = ["--memory", &memory, "--kind", "fisher,mean"];
        good(&borrowed(&run("A.safetensors", &small)));
        good(&borrowed(&run("B.safetensors", &["--kind", "fisher,mean"])));
        for kind in ["fisher", "mean"] {
            let [a, b] = ["A", "B"].map(|file| copy.read(&format!("{file}.{kind}.safetensors")));
            assert!(a == b, "{name} {kind}");
        }
    }
}

#[test]
fn several_kinds_make_several_files_that_say_what_they_are() {
    let copy = Copy::of("llama");
    good(&borrowed(&copy.fisher("F.safetensors", &["--kind", "variance,fisher,abs,mean,fisher", "--loss", "sum"])));
    assert!(!copy.path("F.safetensors").exists());
    for kind in ["fisher", "abs", "mean", "variance"] {
        let file = TensorFile::open(&copy.path(&format!("F.{kind}.safetensors"))).unwrap();
        let metadata = file.metadata();
        for (key, value) in
            [("kind", kind), ("estimator", "sample"), ("loss", "sum"), ("labels", "data"), ("samples", "7")]
        {
            assert_eq!(metadata.get(key).map(String::as_str), Some(value), "{kind} {key}");
        }
        for key in ["model_sha256", "data_sha256"] {
            assert_eq!(metadata[key].len(), 64, "{kind} {key}");
        }
        assert_eq!(metadata["version"], env!("CARGO_PKG_VERSION"));
        assert!(metadata["tokens"].parse::<usize>().unwrap() > 300);
    }
}

#[test]
fn json_is_one_object_and_nothing_else() {
    let copy = Copy::of("gpt2");
    let checkpoint = copy.path("checkpoint");
    let (out, grads) = (copy.path("F.safetensors"), copy.path("G.safetensors"));
    let data = copy.path("data.jsonl");
    let (checkpoint, data, out, grads) = (text(&checkpoint), text(&data), text(&out), text(&grads));
    for (arguments, key) in [
        (vec!["devices"], "auto"),
        (vec!["inspect", checkpoint], "plan"),
        (vec!["inspect", checkpoint, "--data", data, "--memory", "8MiB"], "plan"),
        (vec!["fisher", "--model", checkpoint, "--data", data, "--out", out], "out"),
        (vec!["grads", "--model", checkpoint, "--data", data, "--norms", "--out", grads], "out"),
        (vec!["eval", "--model", checkpoint, "--probes", data], "results"),
    ] {
        let stdout = good(&[&arguments[..], &["--json"]].concat());
        let value: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert!(value.get(key).is_some(), "{arguments:?}: {stdout}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_efface"))
        .args(["inspect", text(&directory("llama").join("checkpoint"))])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A full disk, played by a limit on the size of files: writing fails, and nothing has the output's name.
#[test]
#[cfg(unix)]
fn a_full_disk_is_status_1_and_leaves_no_output() {
    let copy = Copy::of("llama");
    let limited = |arguments: &[String]| {
        let script = format!("trap '' XFSZ; ulimit -f 8; exec '{}' \"$@\"", env!("CARGO_BIN_EXE_efface"));
        let mut command = Command::new("bash");
        command.args(["-c", &script, "efface"]).args(arguments).stdin(Stdio::null()).output().unwrap()
    };
    let arguments = copy.fisher("F.safetensors", &[]);
    let mut grads = arguments.clone();
    grads[0] = "grads".into();
    grads.extend(["--tensors".into(), "*".into()]);
    for arguments in [&arguments, &grads] {
        let output = limited(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("F.safetensors"), "{stderr}");
        assert!(!copy.path("F.safetensors").exists());
    }
    good(&borrowed(&arguments));
    assert!(!copy.path("F.safetensors.partial").exists());
}

/// A patch that changes the sign of every 100th element of the F32 checkpoint `base`, and the edited checkpoint.
fn make_patch(base: &Path, edited: &Path, patch: &Path, kind: PatchKind) {
    let base = Checkpoint::open(base).unwrap();
    let mut writer = PatchWriter::create(patch, kind, &base, [].into()).unwrap();
    let sha256 = write_edited(&base, edited, &mut |tensor, old| {
        let mut new = old.to_vec();
        new.iter_mut().skip(3).step_by(400).for_each(|byte| *byte ^= 0x80);
        writer.record(tensor, old, &new)?;
        Ok(Some(new))
    });
    writer.finish(&sha256.unwrap()).unwrap().commit().unwrap();
}

#[test]
fn a_patch_goes_forwards_and_backwards_bit_for_bit() {
    let copy = Copy::of("llama");
    let [base, edited, patch, there, back, again] =
        ["checkpoint", "edited", "p.patch", "there", "back", "again"].map(|name| copy.path(name));
    make_patch(&base, &edited, &patch, PatchKind::Reversible);
    let call = |command: &'static str, model: &Path, patch: &Path, out: &Path| {
        [command, "--model", text(model), "--patch", text(patch), "--out", text(out)].map(String::from)
    };
    let weights = |directory: &Path| fs::read(directory.join("model.safetensors")).unwrap();
    good(&borrowed(&call("apply", &base, &patch, &there)));
    assert!(weights(&there) == weights(&edited) && weights(&there) != weights(&base));
    let said = good(&[&borrowed(&call("revert", &there, &patch, &back))[..], &["--json"]].concat());
    assert!(weights(&back) == weights(&base));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["sha256"], Checkpoint::open(&base).unwrap().sha256());
    for file in ["config.json", "model.safetensors"] {
        assert!(fs::read(back.join(file)).unwrap() == fs::read(base.join(file)).unwrap(), "{file}");
    }

    let (other, forward) = (copy.path("other"), copy.path("f.patch"));
    make_patch(&base, &other, &forward, PatchKind::Forward);
    let before = copy.listing();
    for (arguments, needle) in [
        (call("apply", &edited, &patch, &again), "p.patch"),
        (call("revert", &base, &patch, &again), "p.patch"),
        (call("revert", &other, &forward, &again), "f.patch"),
        (call("apply", &base, &patch, &there), "exists"),
    ] {
        let line = refused(&borrowed(&arguments), 2);
        assert!(line.contains(needle), "{line}");
        assert_eq!(copy.listing(), before, "{line}");
    }
}
