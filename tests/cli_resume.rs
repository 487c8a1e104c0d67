//! A run of `fisher` that is killed at any moment goes on where it stopped, to the same bytes.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use common::directory;
use tempfile::TempDir;

/// What a run says that goes on from another.
const GOING_ON: &str = "going on from an interrupted run";

/// A random number generator whose seed is printed (SplitMix64).
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        println!("seed {seed}");
        Random(seed)
    }

    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) as f64 / u64::MAX as f64
    }
}

/// A run over many samples in many groups: the device and host budgets are the smallest.
struct Run {
    root: TempDir,
    arguments: Vec<String>,
}

impl Run {
    fn of(name: &str, more: &[&str]) -> Self {
        let root = TempDir::new().unwrap();
        let data = fs::read_to_string(directory(name).join("data.jsonl")).unwrap();
        fs::write(root.path().join("data.jsonl"), data.repeat(6)).unwrap();
        let model = directory(name).join("checkpoint");
        let mut arguments: Vec<String> = ["fisher", "--device", "cpu", "--model"].map(String::from).to_vec();
        arguments.push(model.to_str().unwrap().into());
        arguments.extend(["--data".into(), root.path().join("data.jsonl").to_str().unwrap().into()]);
        arguments.extend(more.iter().map(|argument| argument.to_string()));
        let mut run = Run { root, arguments };
        for flag in ["--memory", "--host-memory"] {
            let output = run.command("refused.safetensors", &[flag, "1000"]).output().unwrap();
            let line = String::from_utf8(output.stderr).unwrap();
            let rest = line.split("the smallest that works here is ").nth(1).unwrap_or_else(|| panic!("{line}"));
            run.arguments.extend([flag.into(), rest.split(' ').next().unwrap().into()]);
        }
        run
    }

    fn command(&self, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_efface"));
        command.args(&self.arguments).args(["--out", self.root.path().join(out).to_str().unwrap()]).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    fn finish(&self, out: &str, more: &[&str]) -> String {
        let Output { status, stderr, .. } = self.command(out, more).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(status.success(), "{stderr}");
        stderr
    }

    /// Starts the run and kills it after `delay`; whether it was still alive, and whether it went on from another.
    fn kill_after(&self, out: &str, delay: Duration) -> (bool, bool) {
        let mut child = self.command(out, &[]).spawn().unwrap();
        sleep(delay);
        let alive = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(alive || output.status.success(), "{stderr}");
        (alive, stderr.contains(GOING_ON))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.root.path().join(name)).unwrap()
    }

    fn partial(&self, out: &str) -> std::path::PathBuf {
        self.root.path().join(format!("{out}.partial"))
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn killed_at_random_moments_it_ends_with_the_same_bytes() {
    let mut random = Random::new();
    let mut resumed = 0;
    for (name, more) in [
        ("qwen2", &["--kind", "fisher,abs,variance"][..]),
        ("gpt2", &["--kind", "fisher,mean", "--labels", "model", "--seed", "7"]),
        ("llama", &["--kind", "fisher,mean", "--estimator", "batch:3"]),
    ] {
        let run = Run::of(name, more);
        let started = Instant::now();
        run.finish("whole.safetensors", &[]);
        let duration = started.elapsed();
        for trial in 0..3 {
            let out = format!("{trial}.safetensors");
            let first = run.root.path().join(format!("{trial}.fisher.safetensors"));
            let mut kills = 0;
            while kills < 6 && !first.exists() {
                let (alive, went_on) = run.kill_after(&out, duration.mul_f64(0.7 * random.share()));
                resumed += usize::from(went_on);
                kills += usize::from(alive);
            }
            // Killed after its first output, or after its last, it must still be possible to finish.
            if !first.exists() || run.partial(&out).exists() {
                let said = run.finish(&out, &[]);
                resumed += usize::from(said.contains(GOING_ON));
            }
            assert!(!run.partial(&out).exists(), "{name}: {:?}", entries(run.root.path()));
            for kind in more[1].split(',') {
                let [whole, killed] =
                    ["whole".into(), trial.to_string()].map(|n| run.bytes(&format!("{n}.{kind}.safetensors")));
                assert!(whole == killed, "{name} {kind} after {kills} kills");
            }
        }
        let left = entries(run.root.path());
        assert!(left.iter().all(|name| !name.contains("partial") && !name.starts_with('.')), "{left:?}");
    }
    println!("{resumed} runs went on from a killed one");
    assert!(resumed >= 5, "only {resumed} runs went on from a killed one");
}

/// Kills the run until it leaves a state with a complete visit behind.
fn interrupted(run: &Run, out: &str) {
    let state = run.partial(out).join("state.json");
    for delay in (1..400).map(|n| Duration::from_millis(4 * n)) {
        assert!(run.kill_after(out, delay).0, "the run ended before it could be killed");
        if fs::read_to_string(&state).is_ok_and(|text| text.contains("deltas")) {
            return;
        }
    }
    panic!("no run got as far as its first visit");
}

#[test]
fn other_settings_data_or_memory_start_over_and_say_so() {
    let run = Run::of("qwen2", &[]);
    for (changed, reason) in [(&["--loss", "sum"][..], "other settings"), (&["--memory", "1GiB"], "cut differently")] {
        let mut other = Run::of("qwen2", &[]);
        if changed[0] == "--memory" {
            other.arguments.truncate(other.arguments.len() - 4);
        }
        let out = "F.safetensors";
        interrupted(&run, out);
        fs::rename(run.partial(out), other.partial(out)).unwrap();
        fs::copy(run.root.path().join("data.jsonl"), other.root.path().join("data.jsonl")).unwrap();
        let said = other.finish(out, changed);
        assert!(said.contains("starting over") && said.contains(reason), "{said}");
        other.finish("G.safetensors", changed);
        assert!(other.bytes(out) == other.bytes("G.safetensors"));
    }
}

#[test]
fn a_refused_call_undoes_nothing() {
    let run = Run::of("llama", &[]);
    run.finish("whole.safetensors", &[]);
    interrupted(&run, "F.safetensors");
    let mut smaller = Run::of("llama", &[]);
    smaller.arguments.clone_from(&run.arguments);
    let memory = smaller.arguments.iter().position(|argument| argument == "--memory").unwrap() + 1;
    smaller.arguments[memory] = "1000".into();
    let before = entries(&run.partial("F.safetensors"));
    fs::rename(run.partial("F.safetensors"), smaller.partial("F.safetensors")).unwrap();
    let output = smaller.command("F.safetensors", &[]).output().unwrap();
    fs::rename(smaller.partial("F.safetensors"), run.partial("F.safetensors")).unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run.command("F.safetensors", &["--no-such-flag"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(entries(&run.partial("F.safetensors")), before);
    assert!(run.finish("F.safetensors", &[]).contains(GOING_ON));
    assert!(run.bytes("whole.safetensors") == run.bytes("F.safetensors"));
}

#[test]
fn a_damaged_state_starts_over() {
    let run = Run::of("gpt2", &[]);
    run.finish("whole.safetensors", &[]);
    for text in ["", "{}", "{\"format\": \"efface-partial\"", "[1, 2"] {
        interrupted(&run, "F.safetensors");
        fs::write(run.partial("F.safetensors").join("state.json"), text).unwrap();
        let said = run.finish("F.safetensors", &[]);
        assert!(said.contains("starting over"), "{said}");
        assert!(run.bytes("whole.safetensors") == run.bytes("F.safetensors"));
        fs::remove_file(run.root.path().join("F.safetensors")).unwrap();
    }
}

#[test]
fn a_directory_of_someone_else_is_left_alone() {
    let run = Run::of("gpt2", &[]);
    let partial = run.partial("F.safetensors");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("thesis.txt"), "years of work").unwrap();
    let output = run.command("F.safetensors", &[]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("thesis.txt"), "{stderr}");
    assert_eq!(entries(&partial), ["thesis.txt"]);
}
