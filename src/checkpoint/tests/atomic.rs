//! Files that appear whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use tempfile::tempdir;

use super::{expect_input_error, names};
use crate::checkpoint::AtomicFile;

#[test]
fn a_file_appears_with_the_commit() {
    let dir = tempdir().unwrap();
    let target = dir.path().join("a.json");
    let mut file = AtomicFile::create(&target).unwrap();
    file.write_all(b"new").unwrap();
    assert!(!target.exists());
    assert_eq!(file.target(), target);
    file.commit().unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert_eq!(names(dir.path()), ["a.json"]);
}

#[test]
fn without_the_commit_nothing_changes() {
    let dir = tempdir().unwrap();
    let target = dir.path().join("a.json");
    fs::write(&target, "old").unwrap();
    let mut file = AtomicFile::replace(&target).unwrap();
    file.write_all(b"new").unwrap();
    assert_eq!(names(dir.path()).len(), 2);
    drop(file);
    assert_eq!(names(dir.path()), ["a.json"]);
    assert_eq!(fs::read(&target).unwrap(), b"old");
    let mut file = AtomicFile::replace(&target).unwrap();
    file.write_all(b"new").unwrap();
    file.commit().unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"new");
}

#[test]
fn targets_that_cannot_be_are_refused() {
    let dir = tempdir().unwrap();
    let target = dir.path().join("a");
    fs::write(&target, "old").unwrap();
    expect_input_error(AtomicFile::create(&target), &["exists already"]);
    expect_input_error(AtomicFile::create(&dir.path().join("no/a")), &["no directory"]);
    expect_input_error(AtomicFile::create(&target.join("a")), &["no directory"]);
    expect_input_error(AtomicFile::create(Path::new("/")), &["names no file"]);
    expect_input_error(AtomicFile::create(Path::new("")), &["names no file"]);
    expect_input_error(AtomicFile::replace(dir.path()), &["is a directory"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        expect_input_error(AtomicFile::create(&dir.path().join("link")), &["exists already"]);
        assert_eq!(names(dir.path()), ["a", "link"]);
    }
}

#[test]
fn a_target_that_appears_meanwhile_is_kept() {
    let dir = tempdir().unwrap();
    let target = dir.path().join("a");
    let file = AtomicFile::create(&target).unwrap();
    fs::write(&target, "another's").unwrap();
    expect_input_error(file.commit(), &["exists already"]);
    assert_eq!(names(dir.path()), ["a"]);
    assert_eq!(fs::read(&target).unwrap(), b"another's");
}

#[test]
fn two_writers_of_one_target_do_not_meet() {
    let dir = tempdir().unwrap();
    let target = dir.path().join("a");
    let (mut first, mut second) = (AtomicFile::replace(&target).unwrap(), AtomicFile::replace(&target).unwrap());
    first.write_all(b"first").unwrap();
    second.write_all(b"2").unwrap();
    second.commit().unwrap();
    first.commit().unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"first");
    assert_eq!(names(dir.path()), ["a"]);
}

#[cfg(unix)]
#[test]
fn a_secret_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempdir().unwrap();
    let target = dir.path().join("a");
    let file = AtomicFile::create_secret(&target).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join(&names(dir.path())[0])), 0o600);
    file.commit().unwrap();
    assert_eq!(mode(&target), 0o600);
}

/// A process number that belongs to no living process: that of a child that has ended.
#[cfg(target_os = "linux")]
fn ended_process() -> u32 {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_killed_process_left_is_removed_and_nothing_else() {
    let dir = tempdir().unwrap();
    let target = dir.path().join("out");
    let dead = ended_process();
    let abandoned = dir.path().join(format!(".out.efface-{dead}-0"));
    fs::create_dir(&abandoned).unwrap();
    fs::write(abandoned.join("model.safetensors"), "half").unwrap();
    fs::write(dir.path().join(format!(".out.efface-{dead}-1")), "half").unwrap();
    let mut kept = vec![
        format!(".other.efface-{dead}-0"),
        format!(".out.efface-{}-7", std::os::unix::process::parent_id()),
        format!(".out.efface-{dead}"),
        format!(".out.efface-{dead}-x"),
        ".out".into(),
    ];
    for name in &kept {
        fs::write(dir.path().join(name), "").unwrap();
    }
    AtomicFile::create(&target).unwrap().commit().unwrap();
    kept.push("out".into());
    kept.sort();
    assert_eq!(names(dir.path()), kept);
}
