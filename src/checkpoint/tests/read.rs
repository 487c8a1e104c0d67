//! Opening model directories, whole and broken.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use sha2::{Digest, Sha256};
use tempfile::tempdir;

use super::{directory, expect_input_error, serialized, sharded_model, single_model, stored};
use crate::Element;
use crate::checkpoint::Checkpoint;

#[test]
fn all_shards_are_seen_as_one() {
    let dir = tempdir().unwrap();
    sharded_model(dir.path());
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let names: Vec<_> = checkpoint.tensors().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["layer.0.bias", "layer.0.mask", "layer.0.weight", "layer.1.empty", "layer.1.weight"]);
    assert_eq!(checkpoint.config()["model_type"], "llama");
    assert_eq!(checkpoint.files().len(), 2);
    assert_eq!(checkpoint.files()[0].metadata()["format"], "pt");

    let weight = checkpoint.tensor("layer.1.weight").unwrap();
    let (file, shape) = (weight.file, &weight.shape[..]);
    assert_eq!((weight.dtype, weight.element, file, shape), (Dtype::F16, Some(Element::F16), 1, &[5, 1, 3][..]));
    let expected = stored("", Dtype::F16, &[5, 1, 3], 4).bytes;
    assert_eq!(checkpoint.bytes(weight), expected);
    checkpoint.prefetch(weight);
    let mapped = checkpoint.mapped(weight);
    let mask = checkpoint.tensor("layer.0.mask").unwrap();
    assert_eq!((mask.element, mask.dtype.to_string(), mask.byte_len()), (None, "BOOL".to_string(), 3));
    assert_eq!(checkpoint.first_non_finite(mask), None);
    assert!(checkpoint.tensor("layer.2").is_none());
    drop(checkpoint);
    assert_eq!(mapped[..], expected[..], "a view outlives its checkpoint");
}

#[test]
fn non_finite_weights_are_found() {
    let dir = tempdir().unwrap();
    let mut weight = stored("w", Dtype::BF16, &[3, 3], 0);
    weight.bytes[10..12].copy_from_slice(&half::bf16::NEG_INFINITY.to_le_bytes());
    single_model(dir.path(), &[weight, stored("a", Dtype::F32, &[3], 0)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.first_non_finite(checkpoint.tensor("w").unwrap()), Some(5));
    assert_eq!(checkpoint.first_non_finite(checkpoint.tensor("a").unwrap()), None);
}

#[test]
fn the_hash_is_that_of_the_listing() {
    let dir = tempdir().unwrap();
    sharded_model(dir.path());
    let mut listing = String::new();
    for name in ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
        listing += &format!("{:x}  {name}\n", Sha256::digest(fs::read(dir.path().join(name)).unwrap()));
    }
    let expected = format!("{:x}", Sha256::digest(listing));
    assert_eq!(Checkpoint::open(dir.path()).unwrap().sha256(), expected);
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    assert_eq!(Checkpoint::open(dir.path()).unwrap().sha256(), expected);
    fs::write(dir.path().join("config.json"), "{ }").unwrap();
    assert_ne!(Checkpoint::open(dir.path()).unwrap().sha256(), expected);
}

#[test]
fn a_lone_file_of_any_name_is_taken() {
    let dir = tempdir().unwrap();
    let weights = serialized(&[stored("w", Dtype::F32, &[1], 0)], None);
    directory(dir.path(), &[("config.json", b"{}"), ("weights.safetensors", &weights)]);
    assert!(Checkpoint::open(dir.path()).unwrap().tensor("w").is_some());
    fs::write(dir.path().join("second.safetensors"), &weights).unwrap();
    expect_input_error(Checkpoint::open(dir.path()), &["2 *.safetensors", "index.json"]);
}

#[test]
fn other_weights_are_reported() {
    let dir = tempdir().unwrap();
    sharded_model(dir.path());
    directory(dir.path(), &[("pytorch_model.bin", b"x"), ("onnx/model.onnx", b"x"), ("adapter.safetensors", b"x")]);
    let found = Checkpoint::open(dir.path()).unwrap().other_weights().unwrap();
    let expected = ["adapter.safetensors", "onnx/model.onnx", "pytorch_model.bin"].map(|name| dir.path().join(name));
    assert_eq!(found, expected);
}

/// Opens a copy of the sharded model that `damage` has changed; it must be refused with `fragments`.
#[track_caller]
fn refused(damage: impl Fn(&Path), fragments: &[&str]) {
    let dir = tempdir().unwrap();
    sharded_model(dir.path());
    damage(dir.path());
    expect_input_error(Checkpoint::open(dir.path()), fragments);
}

/// Replaces text in the index.
fn edit_index(dir: &Path, from: &str, to: &str) {
    let path = dir.join("model.safetensors.index.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

const SECOND: &str = "model-00002-of-00002.safetensors";

#[test]
fn broken_directories_are_refused() {
    let dir = tempdir().unwrap();
    expect_input_error(Checkpoint::open(&dir.path().join("absent")), &["absent"]);
    expect_input_error(Checkpoint::open(dir.path()), &["config.json", "no such file"]);
    directory(dir.path(), &[("config.json", b"{}")]);
    expect_input_error(Checkpoint::open(dir.path()), &["no model.safetensors"]);
    expect_input_error(Checkpoint::open(&dir.path().join("config.json")), &["not a directory"]);
    single_model(dir.path(), &[]);
    expect_input_error(Checkpoint::open(dir.path()), &["no tensor"]);

    refused(|dir| fs::write(dir.join("config.json"), "{").unwrap(), &["config.json", "JSON"]);
    refused(|dir| fs::write(dir.join("config.json"), "[]").unwrap(), &["config.json", "object"]);
    refused(|dir| fs::create_dir(dir.join("model.safetensors")).unwrap(), &["model.safetensors", "directory"]);
    refused(|dir| fs::write(dir.join("model.safetensors"), "").unwrap(), &["model.safetensors", "empty"]);
}

#[test]
fn shards_that_contradict_the_index_are_refused() {
    refused(|dir| fs::remove_file(dir.join(SECOND)).unwrap(), &["index.json", SECOND, "missing"]);
    refused(|dir| fs::write(dir.join("model.safetensors.index.json"), "{}").unwrap(), &["index.json", "weight_map"]);
    refused(|dir| edit_index(dir, "layer.1.weight", "layer.9.weight"), &["index.json", "layer.9.weight", SECOND]);
    refused(|dir| edit_index(dir, SECOND, "model-00001-of-00002.safetensors"), &["layer.1.", "does not hold it"]);
    refused(|dir| edit_index(dir, "layer.1.weight", "layer.1.empty"), &["`layer.1.empty` occurs twice"]);
    for outside in ["../x.safetensors", "a/b.safetensors", "/etc/passwd", "", ".", "..", "./x"] {
        refused(|dir| edit_index(dir, SECOND, outside), &["not the name of a file"]);
    }
    refused(
        |dir| {
            let tensors = [
                stored("layer.1.weight", Dtype::F16, &[1], 0),
                stored("layer.1.empty", Dtype::F32, &[0], 0),
                stored("layer.0.bias", Dtype::BF16, &[7], 0),
            ];
            fs::write(dir.join(SECOND), serialized(&tensors, None)).unwrap();
        },
        &[SECOND, "`layer.0.bias`", "model-00001-of-00002.safetensors too"],
    );
    refused(
        |dir| {
            let path = dir.join(SECOND);
            let whole = fs::read(&path).unwrap();
            fs::write(path, &whole[..whole.len() - 1]).unwrap();
        },
        &[SECOND, "layer.1.weight", "cut short"],
    );
}

#[test]
fn floating_point_types_without_arithmetic_are_refused() {
    for dtype in [Dtype::F64, Dtype::F8_E4M3, Dtype::F8_E5M2, Dtype::F4] {
        let dir = tempdir().unwrap();
        single_model(dir.path(), &[stored("w", dtype, &[2], 0)]);
        expect_input_error(Checkpoint::open(dir.path()), &["tensor `w`", &dtype.to_string(), "BF16"]);
    }
}

#[cfg(unix)]
#[test]
fn links_to_files_are_followed_and_everything_else_refused() {
    use std::os::unix::fs::symlink;
    let blobs = tempdir().unwrap();
    let dir = tempdir().unwrap();
    single_model(blobs.path(), &[stored("w", Dtype::F32, &[1], 0)]);
    for name in ["config.json", "model.safetensors"] {
        symlink(blobs.path().join(name), dir.path().join(name)).unwrap();
    }
    assert!(Checkpoint::open(dir.path()).is_ok(), "the hub's cache links to its blobs");

    let replace = |dir: &Path, target: &str| {
        fs::remove_file(dir.join(SECOND)).unwrap();
        symlink(target, dir.join(SECOND)).unwrap();
    };
    refused(|dir| replace(dir, "nowhere"), &[SECOND, "does not exist"]);
    refused(|dir| replace(dir, "nested"), &[SECOND, "directory"]);
    refused(|dir| replace(dir, "/dev/zero"), &[SECOND, "device"]);
    refused(|dir| replace(dir, SECOND), &[SECOND]);
}
