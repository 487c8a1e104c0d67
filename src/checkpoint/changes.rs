//! What a patch file holds of each changed tensor, and whether it belongs together.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::header::TensorInfo;
use super::patch::{LEFT, NEW, OLD, POSITIONS, PatchKind, RIGHT};
use super::tensor_file::TensorFile;
use crate::{Error, Result};

/// What a patch holds of one changed tensor.
#[derive(Debug)]
pub(super) enum Change {
    /// The elements that differ.
    Elements { positions: TensorInfo, new: TensorInfo, old: Option<TensorInfo> },
    /// The factors of what was added, and the elements that do not come back by themselves: positions and old values.
    LowRank { left: TensorInfo, right: TensorInfo, corrections: Option<[TensorInfo; 2]> },
}

/// Collects what there is of each changed tensor and checks that it belongs together.
pub(super) fn read_changes(file: &TensorFile, kind: PatchKind) -> Result<BTreeMap<String, Change>> {
    let wrong = |vector: &str, problem: String| Error::file(file.path(), format!("tensor `{vector}`"), problem);
    let mut changes = BTreeMap::new();
    for vector in file.tensors() {
        let named = [POSITIONS, NEW, OLD, LEFT, RIGHT].into_iter().find_map(|prefix| vector.name.strip_prefix(prefix));
        let Some(name) = named else {
            let problem = "is no part of a patch: names begin with `positions/`, `new/`, `old/`, `left/` or `right/`";
            return Err(wrong(&vector.name, problem.into()));
        };
        let find = |prefix: &str| file.tensor(&format!("{prefix}{name}"));
        let change = match find(LEFT).or(find(RIGHT)) {
            Some(_) => factors(file, name, kind)?,
            None => elements(file, vector, name, kind)?,
        };
        changes.insert(name.to_string(), change);
    }
    Ok(changes)
}

/// The factors of a changed tensor.
fn factors(file: &TensorFile, name: &str, kind: PatchKind) -> Result<Change> {
    let wrong = |prefix: &str, problem: String| Error::file(file.path(), format!("tensor `{prefix}{name}`"), problem);
    let find = |prefix: &str| file.tensor(&format!("{prefix}{name}"));
    let part = |prefix: &str, partner: &str| {
        find(prefix).ok_or_else(|| wrong(partner, format!("its partner `{prefix}{name}` is missing")))
    };
    let (left, right) = (part(LEFT, RIGHT)?, part(RIGHT, LEFT)?);
    if kind == PatchKind::Forward {
        return Err(wrong(LEFT, "a forward patch holds no factors: they could be taken back".into()));
    }
    if find(NEW).is_some() {
        return Err(wrong(NEW, "stands beside factors, which make the new values".into()));
    }
    for (prefix, factor) in [(LEFT, left), (RIGHT, right)] {
        if factor.dtype != Dtype::F32
            || factor.shape.len() != 2
            || factor.shape[1] != left.shape.get(1).copied().unwrap_or(0)
        {
            let found = format!("is {} {:?}: F32 of two axes expected", factor.dtype, factor.shape);
            return Err(wrong(prefix, format!("{found}, the second of both factors the same")));
        }
    }
    let corrections = match (find(POSITIONS), find(OLD)) {
        (None, None) => None,
        _ => {
            let (positions, old) = (part(POSITIONS, OLD)?, part(OLD, POSITIONS)?);
            check_vectors(file, positions, &[old])?;
            Some([positions.clone(), old.clone()])
        }
    };
    Ok(Change::LowRank { left: left.clone(), right: right.clone(), corrections })
}

/// The vectors of a changed tensor, to which `vector` belongs.
fn elements(file: &TensorFile, vector: &TensorInfo, name: &str, kind: PatchKind) -> Result<Change> {
    let wrong = |vector: &str, problem: String| Error::file(file.path(), format!("tensor `{vector}`"), problem);
    let part = |prefix: &str| {
        let partner = format!("{prefix}{name}");
        file.tensor(&partner).ok_or_else(|| wrong(&vector.name, format!("its partner `{partner}` is missing")))
    };
    if vector.shape.len() != 1 {
        return Err(wrong(&vector.name, format!("has the shape {:?}, where a vector belongs", vector.shape)));
    }
    let (positions, new) = (part(POSITIONS)?, part(NEW)?);
    let old = match kind {
        PatchKind::Reversible => Some(part(OLD)?),
        PatchKind::Forward if vector.name.starts_with(OLD) => {
            return Err(wrong(&vector.name, "a forward patch holds no old values".into()));
        }
        PatchKind::Forward => None,
    };
    let values: Vec<&TensorInfo> = [Some(new), old].into_iter().flatten().collect();
    check_vectors(file, positions, &values)?;
    Ok(Change::Elements { positions: positions.clone(), new: new.clone(), old: old.cloned() })
}

/// Checks that vectors of values are as long as that of their positions, and of one type.
fn check_vectors(file: &TensorFile, positions: &TensorInfo, all: &[&TensorInfo]) -> Result<()> {
    let wrong = |vector: &str, problem: String| Error::file(file.path(), format!("tensor `{vector}`"), problem);
    if positions.shape.len() != 1 {
        return Err(wrong(&positions.name, format!("has the shape {:?}, where a vector belongs", positions.shape)));
    }
    if !matches!(positions.dtype, Dtype::U32 | Dtype::U64) {
        return Err(wrong(&positions.name, format!("positions are U32 or U64, not {}", positions.dtype)));
    }
    let dtype = all[0].dtype;
    for values in all {
        if !values.dtype.bitsize().is_multiple_of(8) {
            return Err(wrong(&values.name, format!("{} values cannot be changed one by one", values.dtype)));
        }
        if values.shape != positions.shape || values.dtype != dtype {
            let expected = format!("{dtype} {:?} expected", positions.shape);
            return Err(wrong(&values.name, format!("is {} {:?}: {expected}", values.dtype, values.shape)));
        }
    }
    Ok(())
}
