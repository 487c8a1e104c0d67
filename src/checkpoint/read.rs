//! Opening a Hugging Face model directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::Value;

use super::hash;
use super::header::TensorInfo;
use super::index;
use super::tensor_file::{Mapped, TensorFile, check_regular};
use crate::{Error, Result};

/// The model's description.
pub(super) const CONFIG: &str = "config.json";
/// The weights, when they are in one file.
const SINGLE: &str = "model.safetensors";
/// The list of shards, when they are in several.
const INDEX: &str = "model.safetensors.index.json";
/// Endings of files in which other programs keep weights.
const WEIGHT_ENDINGS: [&str; 9] = ["safetensors", "bin", "pt", "pth", "ckpt", "gguf", "onnx", "h5", "msgpack"];

/// A model directory: its configuration, and its weights mapped into memory. The files must not be changed while it
/// is open.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: Value,
    config_text: Vec<u8>,
    /// Sorted by file name.
    files: Vec<TensorFile>,
    /// For each tensor, sorted by name: its file and its position in the file's order.
    by_name: Vec<(usize, usize)>,
    sha256: OnceLock<String>,
}

impl Checkpoint {
    /// Opens the model directory `dir`: `config.json` with `model.safetensors`, or with the shards that
    /// `model.safetensors.index.json` lists, or with the only `*.safetensors` file there is.
    ///
    /// # Errors
    /// When a file is missing, damaged or contradicts another, or when a weight has a floating-point type other than
    /// F32, F16 and BF16: the file, the tensor and what is wrong with it are named.
    pub fn open(dir: &Path) -> Result<Self> {
        match fs::metadata(dir) {
            Err(error) => return Err(Error::reading(dir, error)),
            Ok(metadata) if !metadata.is_dir() => {
                return Err(Error::file(dir, "", "is not a directory; a checkpoint is one, with config.json in it"));
            }
            Ok(_) => {}
        }
        let (config, config_text) = read_config(&dir.join(CONFIG))?;
        let files = open_weights(dir)?;
        for tensor in files.iter().flat_map(TensorFile::tensors_in_file_order) {
            check_supported(files[tensor.file].path(), tensor)?;
        }
        let by_name = sorted_by_name(&files)?;
        if by_name.is_empty() {
            return Err(Error::file(dir, "", "the weight files hold no tensor"));
        }
        Ok(Checkpoint { dir: dir.to_path_buf(), config, config_text, files, by_name, sha256: OnceLock::new() })
    }

    /// The model directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The contents of `config.json`, an object.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The weight files, sorted by name; [`TensorInfo::file`] counts in this order.
    pub fn files(&self) -> &[TensorFile] {
        &self.files
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.by_name.iter().map(|&place| self.at(place))
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let found = self.by_name.binary_search_by(|&place| self.at(place).name.as_str().cmp(name));
        found.ok().map(|position| self.at(self.by_name[position]))
    }

    /// The stored bytes of one of this checkpoint's tensors, little-endian, aligned to nothing in particular.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        self.files[tensor.file].bytes(tensor)
    }

    /// The stored bytes of one of this checkpoint's tensors, as a view that may outlive the checkpoint.
    pub fn mapped(&self, tensor: &TensorInfo) -> Mapped {
        self.files[tensor.file].mapped(tensor)
    }

    /// Asks the system to read a tensor's bytes ahead; only a hint.
    pub fn prefetch(&self, tensor: &TensorInfo) {
        self.files[tensor.file].prefetch(tensor);
    }

    /// Lets a tensor's pages go until they are read again: see [`TensorFile::release`].
    pub fn release(&self, tensor: &TensorInfo) {
        self.files[tensor.file].release(tensor);
    }

    /// The flat index of the first NaN or infinity in a tensor; `None` also for element types that have none.
    pub fn first_non_finite(&self, tensor: &TensorInfo) -> Option<usize> {
        self.files[tensor.file].first_non_finite(tensor)
    }

    /// SHA-256 over `config.json` and the weight files, in hexadecimal; computed when first asked for. In a shell:
    /// `LC_ALL=C sha256sum config.json model*.safetensors | sha256sum`.
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| {
            let weights = self.files.par_iter().map(|file| (file_name(file), hash::of_bytes(file.contents())));
            let mut hashes: Vec<_> = weights.collect();
            hashes.push((CONFIG.into(), hash::of_bytes(&self.config_text)));
            hash::combined(hashes)
        })
    }

    /// Files of the directory, subdirectories included, that look like weights and are not part of this checkpoint:
    /// other formats of the same model, for example. An edit does not reach them, so that they still hold what was
    /// removed.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn other_weights(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut pending = vec![self.dir.clone()];
        while let Some(directory) = pending.pop() {
            for path in entries(&directory)? {
                let kind = fs::symlink_metadata(&path).map_err(|error| Error::reading(&path, error))?;
                let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
                if kind.is_dir() {
                    pending.push(path);
                } else if WEIGHT_ENDINGS.contains(&ending) && self.files.iter().all(|file| file.path() != path) {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// `config.json` as it was read.
    pub(super) fn config_text(&self) -> &[u8] {
        &self.config_text
    }

    fn at(&self, (file, position): (usize, usize)) -> &TensorInfo {
        &self.files[file].tensors_in_file_order()[position]
    }
}

/// The name of a weight file, without the directory.
pub(super) fn file_name(file: &TensorFile) -> String {
    file.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The paths of a directory's entries, sorted.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::reading(directory, error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Reads `config.json`: the object and the text that it was read from.
fn read_config(path: &Path) -> Result<(Value, Vec<u8>)> {
    check_regular(path)?;
    let text = fs::read(path).map_err(|error| Error::reading(path, error))?;
    let config: Value =
        serde_json::from_slice(&text).map_err(|error| Error::file(path, "", format!("is not valid JSON: {error}")))?;
    if !config.is_object() {
        return Err(Error::file(path, "", "is not a JSON object, as the description of a model is"));
    }
    Ok((config, text))
}

/// Finds and opens the weight files.
fn open_weights(dir: &Path) -> Result<Vec<TensorFile>> {
    let exists = |name| fs::symlink_metadata(dir.join(name)).is_ok();
    if exists(SINGLE) {
        return Ok(vec![TensorFile::open(&dir.join(SINGLE))?]);
    }
    if !exists(INDEX) {
        return Ok(vec![TensorFile::open(&lone_file(dir)?)?]);
    }
    let index_path = dir.join(INDEX);
    let weight_map = index::read(&index_path)?;
    let shards = index::shards(&index_path, &weight_map)?;
    let open = |(file, shard): (usize, &String)| TensorFile::open_as(&dir.join(shard), file);
    let files = shards.iter().enumerate().map(open).collect::<Result<Vec<_>>>()?;
    index::check_contents(&index_path, &weight_map, &files)?;
    Ok(files)
}

/// The only safetensors file of a directory.
fn lone_file(dir: &Path) -> Result<PathBuf> {
    let is_candidate = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "safetensors");
    let candidates: Vec<PathBuf> = entries(dir)?.into_iter().filter(is_candidate).collect();
    let [path] = &candidates[..] else {
        let problem = if candidates.is_empty() {
            format!("holds no {SINGLE}, no {INDEX} and no other *.safetensors file")
        } else {
            format!("holds {} *.safetensors files, but no {INDEX} that says which belong together", candidates.len())
        };
        return Err(Error::file(dir, "", problem));
    };
    if path.file_name().and_then(|name| name.to_str()).is_none() {
        return Err(Error::file(path, "", "the name of a weight file must be UTF-8 text"));
    }
    Ok(path.clone())
}

/// Refuses floating-point weights that efface cannot compute with. Other types are buffers, which are carried along.
fn check_supported(path: &Path, tensor: &TensorInfo) -> Result<()> {
    let buffers = [
        Dtype::BOOL,
        Dtype::U8,
        Dtype::I8,
        Dtype::U16,
        Dtype::I16,
        Dtype::U32,
        Dtype::I32,
        Dtype::U64,
        Dtype::I64,
        Dtype::C64,
    ];
    if tensor.element.is_some() || buffers.contains(&tensor.dtype) {
        return Ok(());
    }
    let problem = format!("weights stored as {} are not supported; F32, F16 and BF16 are", tensor.dtype);
    Err(Error::file(path, format!("tensor `{}`", tensor.name), problem))
}

/// The places of all tensors, sorted by name.
fn sorted_by_name(files: &[TensorFile]) -> Result<Vec<(usize, usize)>> {
    let mut places = BTreeMap::new();
    for (file, opened) in files.iter().enumerate() {
        for (position, tensor) in opened.tensors_in_file_order().iter().enumerate() {
            if let Some((other, _)) = places.insert(tensor.name.as_str(), (file, position)) {
                let problem = format!("it is in {} too; a tensor belongs in one shard", file_name(&files[other]));
                return Err(Error::file(opened.path(), format!("tensor `{}`", tensor.name), problem));
            }
        }
    }
    Ok(places.into_values().collect())
}
