//! `efface grads` against float64 autograd, on both devices, in one piece and under the smallest budget.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::{FAMILIES, GOLDEN, directory, numbers, relative};
use efface::checkpoint::TensorFile;
use tempfile::TempDir;

const BUDGET: &str = "the smallest that works here is ";

/// Runs `grads` over the first three samples; the tensor file, or the budget that was named instead.
fn grads(name: &str, device: &str, more: &[&str]) -> Result<TensorFile, String> {
    let root = TempDir::new().unwrap();
    let data = fs::read_to_string(directory(name).join("data.jsonl")).unwrap();
    let three: Vec<&str> = data.lines().take(3).collect();
    fs::write(root.path().join("data.jsonl"), three.join("\n")).unwrap();
    let out = root.path().join("G.safetensors");
    let output = Command::new(env!("CARGO_BIN_EXE_efface"))
        .args(["grads", "--device", device, "--model"])
        .arg(directory(name).join("checkpoint"))
        .arg("--data")
        .arg(root.path().join("data.jsonl"))
        .arg("--out")
        .arg(&out)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    if let Some(budget) = stderr.split(BUDGET).nth(1) {
        return Err(budget.split(' ').next().unwrap().into());
    }
    assert!(output.status.success(), "{name} on {device}: {stderr}");
    // The mapping outlives the file's name.
    Ok(TensorFile::open(&out).unwrap())
}

/// The file's tensors against those of `kind` in the reference; how many there were.
fn compare(name: &str, what: &str, kind: &str, file: &TensorFile) -> usize {
    let reference = TensorFile::open(&directory(name).join("golden.safetensors")).unwrap();
    let tolerance = if name.ends_with("16") { 1e-3 } else { 1e-4 };
    let mut compared = 0;
    for tensor in file.tensors() {
        let key = format!("{kind}/{}", tensor.name);
        let Some(want) = reference.tensor(&key) else { continue };
        assert_eq!(tensor.shape, want.shape, "{name} {key}");
        let (got, want) = (numbers(file, &tensor.name), numbers(&reference, &key));
        for (sample, (got, want)) in got.chunks(got.len() / 3).zip(want.chunks(want.len() / 3)).enumerate() {
            let error = relative(got, want);
            assert!(error <= tolerance, "{name} {key}, sample {sample}, {what}: {error:.2e}");
        }
        compared += 1;
    }
    compared
}

fn everywhere(names: &[&str], more: &[&str], kind: &str) -> usize {
    let mut compared = 0;
    for name in names {
        for device in ["cpu", "gpu"] {
            let whole = grads(name, device, more).unwrap();
            compared += compare(name, device, kind, &whole);
            let budget = grads(name, device, &[more, &["--memory", "1000"]].concat()).unwrap_err();
            let small = grads(name, device, &[more, &["--memory", &budget, "--host-memory", "1MiB"]].concat()).unwrap();
            compared += compare(name, &format!("{device} with {budget} bytes"), kind, &small);
        }
    }
    compared
}

#[test]
fn gradients_are_those_of_autograd() {
    let compared = everywhere(&FAMILIES, &["--tensors", "*"], "grads");
    println!("{compared} tensors compared");
    assert!(compared >= 4 * FAMILIES.len());
}

#[test]
fn norms_are_those_of_autograd() {
    let compared = everywhere(&GOLDEN, &["--norms"], "norms");
    println!("{compared} tensors compared");
    assert!(compared > 4 * 10 * GOLDEN.len());
}

#[test]
fn only_the_named_tensors_are_written() {
    let file = grads("llama", "cpu", &["--tensors", "*.1.mlp.*", "model.norm.?eight"]).unwrap();
    let names: Vec<&str> = file.tensors().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "model.layers.1.mlp.down_proj.weight",
            "model.layers.1.mlp.gate_proj.weight",
            "model.layers.1.mlp.up_proj.weight",
            "model.norm.weight"
        ]
    );
    assert_eq!(file.tensors().next().unwrap().shape[0], 3);
    assert_eq!(file.metadata()["kind"], "grads");
}
