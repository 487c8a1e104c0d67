//! Tests of the checkpoint module. Files to read are made by the `safetensors` crate's own writer, or by hand.

mod atomic;
mod finite;
mod fuzz;
mod header;
mod patch;
mod read;
mod tensor_file;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::{Error, Result};

/// A tensor to be written.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

/// A tensor with bytes that differ from place to place and from `salt` to `salt`.
pub(super) fn stored(name: &str, dtype: Dtype, shape: &[usize], salt: u8) -> Stored {
    let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
    let bytes = (0..len).map(|index| (index as u8).wrapping_mul(37).wrapping_add(salt) & 0x3f).collect();
    Stored { name: name.into(), dtype, shape: shape.into(), bytes }
}

/// The file of `tensors` as the `safetensors` crate writes it.
pub(super) fn serialized(tensors: &[Stored], metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let views = tensors.iter().map(|tensor| {
        (tensor.name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap())
    });
    safetensors::serialize(views, metadata).unwrap()
}

/// A file of any header, however wrong, and data.
pub(super) fn raw_file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Makes the model directory `dir` of these files.
pub(super) fn directory(dir: &Path, files: &[(&str, &[u8])]) {
    fs::create_dir_all(dir).unwrap();
    for (name, contents) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
}

/// A checkpoint of two shards with all three weight types, a buffer, an empty tensor, and files besides.
pub(super) fn sharded_model(dir: &Path) {
    let first = [
        stored("layer.0.weight", Dtype::F32, &[3, 5], 1),
        stored("layer.0.bias", Dtype::BF16, &[7], 2),
        stored("layer.0.mask", Dtype::BOOL, &[3, 1], 3),
    ];
    let second = [stored("layer.1.weight", Dtype::F16, &[5, 1, 3], 4), stored("layer.1.empty", Dtype::F32, &[0, 4], 5)];
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let metadata: HashMap<_, _> = [("format".to_string(), "pt".to_string())].into();
    let mut weight_map = BTreeMap::new();
    for (shard, tensors) in [(names[0], &first[..]), (names[1], &second[..])] {
        weight_map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), shard)));
    }
    let index = serde_json::json!({"metadata": {"total_size": 113}, "weight_map": weight_map}).to_string();
    directory(
        dir,
        &[
            ("config.json", b"{\"model_type\": \"llama\"}\n"),
            ("model.safetensors.index.json", index.as_bytes()),
            (names[0], &serialized(&first, Some(metadata))),
            (names[1], &serialized(&second, None)),
            ("tokenizer.json", b"{\"version\": \"1.0\"}"),
            ("nested/deeper/notes.txt", b"\0\xff\r\n"),
        ],
    );
}

/// A checkpoint of one file.
pub(super) fn single_model(dir: &Path, tensors: &[Stored]) {
    directory(dir, &[("config.json", b"{}"), ("model.safetensors", &serialized(tensors, None))]);
}

/// All files below `dir` and their contents.
pub(super) fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The names in `dir`, sorted: to see that nothing was left behind.
pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The message of a failure that is the input's fault; it must contain all of `fragments`.
#[track_caller]
pub(super) fn expect_input_error<T: std::fmt::Debug>(result: Result<T>, fragments: &[&str]) -> Error {
    let error = result.expect_err("this must be refused");
    assert!(error.is_input(), "{error:?}");
    let message = error.to_string();
    for fragment in fragments {
        assert!(message.contains(fragment), "`{fragment}` is not in: {message}");
    }
    error
}
