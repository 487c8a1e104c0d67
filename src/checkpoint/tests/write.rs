//! Writing edited checkpoints.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use tempfile::{TempDir, tempdir};

use super::{contents, directory, expect_input_error, names, sharded_model, single_model, stored};
use crate::checkpoint::{Checkpoint, TensorInfo, stage_edited, write_edited};
use crate::{Error, Result};

/// The sharded model in `base` of a new directory.
fn base() -> (TempDir, Checkpoint) {
    let dir = tempdir().unwrap();
    sharded_model(&dir.path().join("base"));
    let checkpoint = Checkpoint::open(&dir.path().join("base")).unwrap();
    (dir, checkpoint)
}

fn unchanged(_: &TensorInfo, _: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(None)
}

#[test]
fn an_edit_that_changes_nothing_gives_the_same_files() {
    let (dir, base) = base();
    let out = dir.path().join("out");
    let sha256 = write_edited(&base, &out, &mut unchanged).unwrap();
    assert_eq!(contents(&out), contents(base.dir()));
    assert_eq!(sha256, base.sha256());
    assert_eq!(names(dir.path()), ["base", "out"]);
    let same = |_: &TensorInfo, bytes: &[u8]| Ok(Some(bytes.to_vec()));
    write_edited(&base, &dir.path().join("again/"), &mut { same }).unwrap();
    assert_eq!(contents(&dir.path().join("again")), contents(base.dir()));
}

#[test]
fn only_the_edited_tensor_changes() {
    let (dir, base) = base();
    let out = dir.path().join("out");
    let mut asked = Vec::new();
    let sha256 = write_edited(&base, &out, &mut |tensor, bytes| {
        asked.push((tensor.file, tensor.range.start));
        let inverted = || bytes.iter().map(|byte| !byte).collect();
        Ok((tensor.name == "layer.0.bias").then(inverted))
    })
    .unwrap();
    assert!(asked.is_sorted() && asked.len() == 5, "every tensor is asked for in file order");

    let edited = Checkpoint::open(&out).unwrap();
    assert_eq!(edited.sha256(), sha256);
    assert_ne!(edited.sha256(), base.sha256());
    for (old, new) in base.tensors().zip(edited.tensors()) {
        assert_eq!(old, new);
        let equal = base.bytes(old) == edited.bytes(new);
        assert_eq!(equal, old.name != "layer.0.bias", "{}", old.name);
    }
    let mut expected = contents(base.dir());
    let bias = base.tensor("layer.0.bias").unwrap();
    let shard = expected.get_mut(Path::new("model-00001-of-00002.safetensors")).unwrap();
    shard[bias.range.clone()].iter_mut().for_each(|byte| *byte = !*byte);
    assert_eq!(contents(&out), expected);
}

#[test]
fn a_staged_checkpoint_waits_for_its_name() {
    let (dir, base) = base();
    let out = dir.path().join("out");
    let staged = stage_edited(&base, &out, &mut unchanged).unwrap();
    assert!(!out.exists());
    assert_eq!(Checkpoint::open(staged.dir()).unwrap().sha256(), staged.sha256());
    drop(staged);
    assert_eq!(names(dir.path()), ["base"]);

    let staged = stage_edited(&base, &out, &mut unchanged).unwrap();
    directory(&out, &[("another's", b"x")]);
    expect_input_error(staged.commit(), &["exists already"]);
    assert_eq!(names(dir.path()), ["base", "out"]);
    assert_eq!(names(&out), ["another's"]);
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let (dir, base) = base();
    let out = dir.path().join("out");
    let mut calls = 0;
    let error = write_edited(&base, &out, &mut |_, _| {
        calls += 1;
        if calls == 4 { Err(Error::Failed("the device is lost".into())) } else { Ok(None) }
    });
    assert_eq!(error.unwrap_err().to_string(), "the device is lost");
    let shorter = |_: &TensorInfo, bytes: &[u8]| Ok(Some(bytes[1..].to_vec()));
    expect_input_error(write_edited(&base, &out, &mut { shorter }), &["tensor `layer.0.", "bytes"]);
    assert_eq!(names(dir.path()), ["base"]);
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let (dir, base) = base();
    let before = contents(base.dir());
    let refused = |out: &Path, fragment: &str| {
        expect_input_error(write_edited(&base, out, &mut unchanged), &[fragment]);
    };
    refused(base.dir(), "exists already");
    refused(&base.dir().join("nested/out"), "inside the checkpoint");
    refused(&dir.path().join("base/../base/out"), "inside the checkpoint");
    refused(&dir.path().join("no/out"), "no directory");
    refused(Path::new("/"), "names no file");
    refused(&dir.path().join("base/.."), "names no file");
    fs::create_dir(dir.path().join("empty")).unwrap();
    refused(&dir.path().join("empty"), "exists already");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("base", dir.path().join("link")).unwrap();
        refused(&dir.path().join("link"), "exists already");
        refused(&dir.path().join("link/out"), "inside the checkpoint");
        fs::remove_file(dir.path().join("link")).unwrap();
    }
    assert_eq!(names(dir.path()), ["base", "empty"]);
    assert_eq!(contents(base.dir()), before);
}

#[cfg(unix)]
#[test]
fn copies_keep_their_permissions_and_links_become_files() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempdir().unwrap();
    let model = dir.path().join("base");
    single_model(&model, &[stored("w", Dtype::F32, &[3], 0)]);
    directory(&model, &[("run.sh", b"#!/bin/sh\n"), ("secret.txt", b"s"), (".x.efface-1-0", b"rest of another write")]);
    let modes = [("run.sh", 0o755), ("secret.txt", 0o400), ("model.safetensors", 0o440), ("config.json", 0o604)];
    for (name, mode) in modes {
        fs::set_permissions(model.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(&model, fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(dir.path().join("elsewhere"), "vocabulary").unwrap();
    symlink("../elsewhere", model.join("vocab.txt")).unwrap();

    let base = Checkpoint::open(&model).unwrap();
    let out = dir.path().join("out");
    write_edited(&base, &out, &mut unchanged).unwrap();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    for (name, expected) in modes {
        assert_eq!(mode(&out.join(name)), expected, "{name}");
    }
    assert_eq!(mode(&out), 0o750);
    assert!(fs::symlink_metadata(out.join("vocab.txt")).unwrap().is_file());
    assert_eq!(fs::read(out.join("vocab.txt")).unwrap(), b"vocabulary");
    assert!(!out.join(".x.efface-1-0").exists());

    for (target, fragment) in [("nowhere", "does not exist"), (".", "link to a directory"), ("/dev/null", "device")] {
        symlink(target, model.join("odd")).unwrap();
        let refused = write_edited(&base, &dir.path().join("again"), &mut unchanged);
        expect_input_error(refused, &["odd", fragment]);
        fs::remove_file(model.join("odd")).unwrap();
    }
    assert_eq!(names(dir.path()), ["base", "elsewhere", "out"]);
}
