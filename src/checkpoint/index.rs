//! `model.safetensors.index.json`: which shard of a checkpoint holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path};

use serde::Deserialize;

use super::tensor_file::{TensorFile, check_regular};
use super::unique_map::UniqueMap;
use crate::{Error, Result};

/// The parts of the file that matter here.
#[derive(Deserialize)]
struct Json {
    weight_map: UniqueMap<String>,
}

/// For each tensor the name of its shard.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>> {
    let wrong = |place: String, problem: String| Error::file(path, place, problem);
    check_regular(path)?;
    let text = fs::read(path).map_err(|error| Error::reading(path, error))?;
    let json: Json = serde_json::from_slice(&text).map_err(|error| {
        wrong(String::new(), format!("not an index of the form {{\"weight_map\": {{tensor: shard}}}}: {error}"))
    })?;
    let weight_map = json.weight_map.0;
    if weight_map.is_empty() {
        return Err(wrong("weight_map".into(), "it names no tensor".into()));
    }
    for (tensor, shard) in &weight_map {
        let components: Vec<Component> = Path::new(shard).components().collect();
        if !matches!(components[..], [Component::Normal(name)] if name == shard.as_str()) {
            let problem = format!("its shard `{shard}` is not the name of a file in the checkpoint's directory");
            return Err(wrong(format!("tensor `{tensor}`"), problem));
        }
    }
    Ok(weight_map)
}

/// The shards that an index names, sorted.
pub(super) fn shards(path: &Path, weight_map: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let shards: BTreeSet<&String> = weight_map.values().collect();
    for &shard in &shards {
        let file = path.with_file_name(shard);
        if fs::symlink_metadata(&file).is_err() {
            return Err(Error::file(
                path,
                "weight_map",
                format!("shard `{shard}` is missing: there is no {}", file.display()),
            ));
        }
    }
    Ok(shards.into_iter().cloned().collect())
}

/// Checks that each tensor is in the shard that the index names.
pub(super) fn check_contents(path: &Path, weight_map: &BTreeMap<String, String>, files: &[TensorFile]) -> Result<()> {
    let by_name: BTreeMap<_, _> = files.iter().filter_map(|file| Some((file.path().file_name()?, file))).collect();
    for (tensor, shard) in weight_map {
        let held = by_name.get(shard.as_ref() as &std::ffi::OsStr).and_then(|file| file.tensor(tensor));
        if held.is_none() {
            let problem = format!("the index places it in {shard}, which does not hold it");
            return Err(Error::file(path, format!("tensor `{tensor}`"), problem));
        }
    }
    Ok(())
}
