//! Killed writers and full disks: whatever happens to the process or the disk, a target is as it was or complete.
//!
//! The process that is killed is this test binary again: it runs the test `child`, which does what the environment
//! says and is empty otherwise.
#![cfg(unix)]

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use efface::checkpoint::{
    AtomicFile, Checkpoint, Declaration, Dtype, PatchKind, PatchWriter, TensorFileWriter, stage_edited, write_edited,
};
use efface::{Error, Result};
use tempfile::tempdir;

/// What the child is to do.
const TASK: &str = "EFFACE_TEST_TASK";
/// The directory it works in.
const PLACE: &str = "EFFACE_TEST_PLACE";
/// Tensors of the checkpoint, and numbers in each.
const TENSORS: usize = 24;
const NUMBERS: usize = 4099;

#[test]
fn child() {
    let (Ok(task), Ok(place)) = (env::var(TASK), env::var(PLACE)) else { return };
    let place = PathBuf::from(place);
    let outcome = match task.as_str() {
        "checkpoint" => write_checkpoint(&place),
        "file" => replace_file(&place),
        "patch" => write_patch(&place),
        "tensors" => write_tensors(&place),
        _ => panic!("no task {task}"),
    };
    if let Err(error) = outcome {
        assert!(matches!(error, Error::Io { input: false, .. }), "a full disk is not the input's fault: {error:?}");
        println!("REFUSED: {error}");
    }
}

/// The command that runs a task in `place`.
fn task(name: &str, place: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(TASK, name).env(PLACE, place);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Makes the checkpoint `base` in `place`.
fn make_base(place: &Path) {
    let base = place.join("base");
    fs::create_dir(&base).unwrap();
    fs::write(base.join("config.json"), "{}").unwrap();
    fs::write(base.join("tokenizer.json"), vec![b' '; 3001]).unwrap();
    write_numbers(&base.join("model.safetensors"), |index| index as f32).unwrap();
}

/// Writes a tensor file of the tests' size.
fn write_numbers(path: &Path, number: impl Fn(usize) -> f32) -> Result<()> {
    let declare = |index: usize| Declaration { name: format!("t{index:02}"), dtype: Dtype::F32, shape: vec![NUMBERS] };
    let declared: Vec<_> = (0..TENSORS).map(declare).collect();
    let mut writer = TensorFileWriter::new(AtomicFile::create(path)?, &declared, &Default::default())?;
    for (index, tensor) in declared.iter().enumerate().rev() {
        writer.append_f32(&tensor.name, &vec![number(index); NUMBERS])?;
    }
    writer.commit()
}

fn inverted(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

fn write_checkpoint(place: &Path) -> Result<()> {
    let base = Checkpoint::open(&place.join("base"))?;
    write_edited(&base, &place.join("out"), &mut |_, old| {
        // Long enough for a kill to fall between any two tensors.
        thread::sleep(Duration::from_micros(300));
        Ok(Some(inverted(old)))
    })?;
    Ok(())
}

fn replace_file(place: &Path) -> Result<()> {
    for round in 0..u8::MAX {
        let target = place.join("out");
        let mut file = AtomicFile::replace(&target)?;
        for _ in 0..40 {
            file.write_all(&[b'0' + round % 10; 1000]).map_err(|error| Error::writing(&target, error))?;
        }
        file.commit()?;
    }
    Ok(())
}

fn write_patch(place: &Path) -> Result<()> {
    let base = Checkpoint::open(&place.join("base"))?;
    let mut patch = PatchWriter::create(&place.join("patch"), PatchKind::Reversible, &base, Default::default())?;
    let staged = stage_edited(&base, &place.join("out"), &mut |tensor, old| {
        let new = inverted(old);
        patch.record(tensor, old, &new)?;
        Ok(Some(new))
    })?;
    patch.finish(staged.sha256())?.commit()?;
    staged.commit()
}

fn write_tensors(place: &Path) -> Result<()> {
    write_numbers(&place.join("out"), |index| -(index as f32))
}

/// The names in `place`, sorted.
fn names(place: &Path) -> Vec<String> {
    let entries = fs::read_dir(place).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Checks that `out` is the complete inverse of `base`.
fn assert_complete(place: &Path) {
    let (base, out) = (Checkpoint::open(&place.join("base")).unwrap(), Checkpoint::open(&place.join("out")).unwrap());
    assert_eq!(out.tensors().len(), TENSORS);
    for tensor in base.tensors() {
        assert_eq!(out.bytes(tensor), inverted(base.bytes(tensor)), "{}", tensor.name);
    }
    assert_eq!(names(out.dir()), names(base.dir()));
    assert_eq!(fs::read(out.dir().join("tokenizer.json")).unwrap().len(), 3001);
}

/// How long a task takes when it is left alone, in `place`; its output is removed again.
fn undisturbed(name: &str, place: &Path) -> Duration {
    let begin = Instant::now();
    let output = task(name, place).output().unwrap();
    assert!(output.status.success());
    begin.elapsed()
}

/// Runs a task in `place` and kills it after `delay`.
fn kill_after(name: &str, place: &Path, delay: Duration) {
    let mut child = task(name, place).spawn().unwrap();
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_writer_of_a_checkpoint_leaves_the_old_state_or_the_new() {
    let dir = tempdir().unwrap();
    let place = dir.path();
    make_base(place);
    let whole = undisturbed("checkpoint", place);
    assert_complete(place);
    fs::remove_dir_all(place.join("out")).unwrap();

    let (mut killed_midway, mut rounds) = (0, 0);
    while rounds < 40 || killed_midway < 5 {
        assert!(rounds < 400, "the kills never fell into the writing");
        // Spread over the run's time in steps that share no divisor with the number of rounds.
        kill_after("checkpoint", place, whole * (rounds * 37 % 101) / 100);
        rounds += 1;
        if place.join("out").exists() {
            assert_complete(place);
            fs::remove_dir_all(place.join("out")).unwrap();
        }
        let left = names(place);
        assert!(left.iter().all(|name| name == "base" || name.starts_with(".out.efface-")), "{left:?}");
        killed_midway += usize::from(left.len() > 1);
    }
    undisturbed("checkpoint", place);
    assert_complete(place);
    #[cfg(target_os = "linux")]
    assert_eq!(names(place), ["base", "out"], "the next run removes what the killed ones left");
}

#[test]
fn a_killed_writer_of_a_file_leaves_a_whole_one() {
    let dir = tempdir().unwrap();
    let place = dir.path();
    fs::write(place.join("out"), [b'0'; 40_000]).unwrap();
    let (mut killed_midway, mut rounds) = (0, 0u64);
    while rounds < 30 || killed_midway < 3 {
        assert!(rounds < 400, "the kills never fell into the writing");
        kill_after("file", place, Duration::from_micros(3000 + rounds * 37 % 101 * 200));
        rounds += 1;
        let text = fs::read(place.join("out")).unwrap();
        assert_eq!(text.len(), 40_000);
        assert!(text.iter().all(|&byte| byte == text[0]), "two versions in one file");
        killed_midway += usize::from(names(place).len() > 1);
    }
}

/// Runs a task that must fail for want of space, and checks that only `expected` remains in `place`.
fn expect_refusal(command: &mut Command, place: &Path, expected: &[&str]) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("REFUSED: "), "{:?}: {said}", output.status);
    assert_eq!(names(place), expected, "{said}");
}

/// A limit on the size of files makes every long enough write fail, as a full disk does.
#[test]
fn a_write_that_fails_leaves_nothing() {
    let dir = tempdir().unwrap();
    let place = dir.path();
    make_base(place);
    for name in ["checkpoint", "patch", "tensors"] {
        for blocks in [1, 5, 100] {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""), "sh"]);
            command.arg(env::current_exe().unwrap()).args(["--exact", "child", "--nocapture"]);
            command.env(TASK, name).env(PLACE, place).stderr(Stdio::null());
            expect_refusal(&mut command, place, &["base"]);
        }
    }
    for name in ["patch", "tensors"] {
        undisturbed(name, place);
        fs::remove_file(place.join("out")).or_else(|_| fs::remove_dir_all(place.join("out"))).unwrap();
    }
    assert_eq!(names(place), ["base", "patch"]);
}

/// A file system in memory of a given size; only the superuser can make one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, kibibytes: usize) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={kibibytes}k"), "tmpfs"]).arg(at).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()).then(|| SmallDisk(at.to_path_buf()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// The same on a disk that is really full, where one can be had; without, the test above stands for it.
#[test]
fn a_full_disk_leaves_nothing() {
    let dir = tempdir().unwrap();
    // The checkpoint alone takes 396 KiB, the patch as much again and half, twice over while it is laid out.
    for (name, kibibytes) in [("checkpoint", 600), ("tensors", 600), ("patch", 900), ("patch", 1500), ("patch", 2400)] {
        let Some(disk) = SmallDisk::mount(&dir.path().join("disk"), kibibytes) else { return };
        make_base(&disk.0);
        expect_refusal(&mut task(name, &disk.0), &disk.0, &["base"]);
    }
}
