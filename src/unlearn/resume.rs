//! Importance in a run that may be interrupted: after every visit of a stage, what was accumulated so far and the delta at
//! the stage's input lie in a directory, from which the same call goes on.
//!
//! | file | what it holds |
//! |---|---|
//! | `state.json` | the keys of the run, the memory it planned with, and the last complete visit |
//! | `point.G.S` | for the visit of stage S in group G: deltas, rows of the tied head's gradient, losses |
//! | `P.KIND.A.B.N` | sums over the rows A to B of parameter P after N visits ([`DirectoryStore`]) |
//! | `complete` | the key, once the sums are complete and the output is being written |
//! | `lock` | held by the process that works here |
//!
//! A file is written under another name and renamed, in order, by a thread of its own. `state.json` changes last, and a visit's
//! sums leave those of the group before in place, so that a process killed at any moment leaves a state from which the
//! visits after the last point are done again. Points are written as often as their cost allows, and at the end of a group.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::importance::ImportanceSink;
use super::store::DirectoryStore;
use super::writer::Writer;
use crate::kernels::Accumulate;
use crate::stream::{Journal, Limits, Pass, PassReport, Plan, Progress, ResumePoint, SampleLoss, Unit};
use crate::{Error, Result};

const STATE: &str = "state.json";
const LOCK: &str = "lock";
const COMPLETE: &str = "complete";
const FORMAT: &str = "efface-partial";
const VERSION: u32 = 1;

/// How a run began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// There was nothing to go on from.
    Fresh,
    /// After the visit of a stage in a group, of so many of each.
    Resumed {
        /// The group, counted from 0.
        group: usize,
        /// All groups.
        groups: usize,
        /// The stage, counted from 0, which backward visits last.
        stage: usize,
        /// All stages.
        stages: usize,
    },
    /// What was there could not be used, and was removed.
    Over {
        /// Why.
        reason: String,
    },
}

/// Names everything that a run's result depends on. It is asked for when it is needed: when an earlier run was found, and
/// otherwise when the first visit is complete, since the hashes in it take as long as reading the model.
pub type Key<'a> = &'a dyn Fn() -> String;

/// A run that leaves its partial result in a directory.
pub struct ResumableRun<'a> {
    directory: PathBuf,
    key: Key<'a>,
    found: bool,
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    format: String,
    version: u32,
    /// What the result depends on: model, data, settings.
    key: String,
    /// How the pass is cut into visits: sums are kept by visit.
    plan: String,
    /// Memory in bytes that was planned with, so that the same plan can be made again.
    device_memory: u64,
    host_memory: u64,
    point: Option<Point>,
}

/// The last complete visit; the numbers are in its own file, these are their counts.
#[derive(Debug, Serialize, Deserialize)]
struct Point {
    group: usize,
    stage: usize,
    deltas: Vec<usize>,
    head_rows: Vec<usize>,
    losses: Vec<usize>,
}

impl std::fmt::Debug for ResumableRun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumableRun").field("directory", &self.directory).field("found", &self.found).finish()
    }
}

impl<'a> ResumableRun<'a> {
    /// Takes `directory` for this run.
    ///
    /// # Errors
    /// When the directory holds something else, another process works in it, or it cannot be made.
    pub fn begin(directory: &Path, key: Key<'a>) -> Result<Self> {
        let failed = |e| Error::writing(directory, e);
        let found = match fs::create_dir(directory) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => true,
            result => result.map(|()| false).map_err(failed)?,
        };
        if found {
            check_ours(directory)?;
        }
        let lock = File::create(directory.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(Error::argument(format!("{}: another run is at work here", directory.display())));
            }
            // Where a file system knows no locks, keeping two runs apart is left to the caller.
            Err(fs::TryLockError::Error(_)) => {}
        }
        Ok(ResumableRun { directory: directory.to_path_buf(), key, found, _lock: lock })
    }

    /// Whether there was an interrupted run, of this key or another, rather than nothing.
    pub fn found(&self) -> bool {
        self.found
    }

    /// The device and host memory, in bytes, with which an interrupted run of this key was planned. The same plan, and so
    /// going on, needs the same memory.
    pub fn memory(&self) -> Option<(u64, u64)> {
        let state = read_state(&self.directory).ok()?;
        (state.key == (self.key)()).then_some((state.device_memory, state.host_memory))
    }

    /// Accumulates over `units`, from where an interrupted run stopped. `on_start` hears where that is.
    ///
    /// # Errors
    /// As [`Pass::gradients`], or when the directory cannot be read or written.
    pub fn accumulate(
        &self,
        pass: &Pass,
        units: &[Unit],
        sums: &[Accumulate],
        on_start: &mut dyn FnMut(&Start),
        progress: Progress<'_>,
    ) -> Result<(DirectoryStore, PassReport)> {
        let mut store = DirectoryStore::new(&self.directory, &pass.model)?;
        let writer = store.writer();
        let mut sink = ImportanceSink::new(&pass.model, sums.to_vec(), &mut store);
        let plan = pass.plan(&pass.demand(units, Some(&sink)))?;
        let Limits { device, host, .. } = pass.limits();
        let state = State {
            format: FORMAT.into(),
            version: VERSION,
            key: String::new(),
            plan: fingerprint(&plan),
            device_memory: device,
            host_memory: host,
            point: None,
        };
        let (start, point) = match self.point(&state, &plan, pass.model.stages.len()) {
            Ok(Some((start, point))) => (start, Some(point)),
            Ok(None) => (Start::Fresh, None),
            Err(reason) => (Start::Over { reason }, None),
        };
        on_start(&start);
        let mut diary = Diary {
            directory: &self.directory,
            key: self.key,
            state,
            writer,
            last: Instant::now(),
            cost: Arc::default(),
        };
        if point.is_none() {
            self.clear()?;
        }
        let report = pass.resumable_gradients(units, &mut sink, &mut diary, point, progress)?;
        store.settle()?;
        Ok((store, report))
    }

    /// Writes down that the sums are complete: outputs that exist from now on are this run's own.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark_complete(&self) -> Result<()> {
        replace(&self.directory.join(COMPLETE), (self.key)().as_bytes())
    }

    /// Whether an interrupted run of this key had begun to write its output.
    pub fn was_complete(&self) -> bool {
        fs::read(self.directory.join(COMPLETE)).is_ok_and(|key| key == (self.key)().as_bytes())
    }

    /// Removes the directory: its result has been written elsewhere, or is not wanted.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard(self) -> Result<()> {
        let failed = |e| Error::writing(&self.directory, e);
        // The mark goes last: a process killed before that is known to have written its output.
        self.remove(&[STATE], &[LOCK, COMPLETE])?;
        self.remove(&[LOCK, COMPLETE], &[])?;
        fs::remove_dir(&self.directory).map_err(failed)
    }

    /// The visit to go on after, if there is one that fits; otherwise why what is there does not.
    fn point(
        &self,
        state: &State,
        plan: &Plan,
        stages: usize,
    ) -> std::result::Result<Option<(Start, ResumePoint)>, String> {
        if !self.directory.join(STATE).exists() {
            return Ok(None);
        }
        let found = read_state(&self.directory)?;
        if found.key != (self.key)() {
            return Err("it was made of another model, other data or with other settings".into());
        }
        let Some(saved) = found.point else { return Ok(None) };
        if found.plan != state.plan {
            return Err("with the memory given now the work is cut differently".into());
        }
        let chunks = plan.groups.get(saved.group).map(ExactSizeIterator::len);
        let fits = |lengths: &[usize]| saved.stage == 0 || Some(lengths.len()) == chunks;
        if chunks.is_none() || saved.stage >= stages || !fits(&saved.deltas) || !fits(&saved.head_rows) {
            return Err("its state is damaged".into());
        }
        let point = read_point(&self.directory, &saved)?;
        let groups = plan.groups.len();
        Ok(Some((Start::Resumed { group: saved.group, groups, stage: saved.stage, stages }, point)))
    }

    /// Removes every file of a run but the lock; the state first, without which the others mean nothing.
    fn clear(&self) -> Result<()> {
        self.remove(&[STATE, COMPLETE], &[LOCK])
    }

    /// Removes the files `first`, which need not be there, and then all others but those to `keep`.
    fn remove(&self, first: &[&str], keep: &[&str]) -> Result<()> {
        let failed = |e| Error::writing(&self.directory, e);
        for first in first {
            match fs::remove_file(self.directory.join(first)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            }
        }
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let text = name.to_string_lossy();
            if is_ours(&text) && !keep.contains(&&*text) {
                fs::remove_file(self.directory.join(&name)).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// A point may take this share of the time.
const POINTS_TAKE: f64 = 0.01;

/// Writes down how far a run has come.
struct Diary<'a> {
    directory: &'a Path,
    key: Key<'a>,
    state: State,
    writer: Arc<Writer>,
    /// When the last point was handed over.
    last: Instant,
    /// Nanoseconds that the last point took to be made and written.
    cost: Arc<AtomicU64>,
}

impl Journal for Diary<'_> {
    fn is_due(&self) -> bool {
        self.last.elapsed().as_secs_f64() * POINTS_TAKE >= 1e-9 * self.cost.load(Ordering::Relaxed) as f64
    }

    fn visited(&mut self, point: &mut dyn FnMut() -> Result<ResumePoint>) -> Result<()> {
        let begun = Instant::now();
        if self.state.key.is_empty() {
            self.state.key = (self.key)();
        }
        let mut point = point()?;
        if point.stage == 0 {
            // The next group starts afresh.
            point.deltas.clear();
            point.head_rows.clear();
        }
        let lengths = |all: &[Vec<f32>]| all.iter().map(Vec::len).collect();
        let before = self.state.point.replace(Point {
            group: point.group,
            stage: point.stage,
            deltas: lengths(&point.deltas),
            head_rows: lengths(&point.head_rows),
            losses: point.losses.iter().map(|loss| loss.tokens.len()).collect(),
        });
        let file = |group, stage| self.directory.join(point_name(group, stage));
        let (new, old) = (file(point.group, point.stage), before.map(|before| file(before.group, before.stage)));
        let state_file = self.directory.join(STATE);
        let state = serde_json::to_string(&self.state).map_err(|e| Error::Failed(e.to_string()))?;
        let floats: usize = point.deltas.iter().chain(&point.head_rows).map(Vec::len).sum();
        let (making, cost) = (begun.elapsed(), self.cost.clone());
        self.writer.hand_over(4 * floats as u64, move || {
            let begun = Instant::now();
            replace(&new, &point_bytes(&point))?;
            replace(&state_file, state.as_bytes())?;
            if let Some(old) = old.filter(|old| *old != new) {
                // One that stays for whatever reason does no harm: the state no longer names it.
                let _ = fs::remove_file(old);
            }
            cost.store((making + begun.elapsed()).as_nanos() as u64, Ordering::Relaxed);
            Ok(())
        })?;
        self.last = Instant::now();
        Ok(())
    }
}

/// The numbers of a point, as [`read_point`] reads them.
fn point_bytes(point: &ResumePoint) -> Vec<u8> {
    let losses = point.losses.iter().map(|loss| &loss.tokens);
    let parts = || point.deltas.iter().chain(&point.head_rows).chain(losses.clone());
    let mut bytes = Vec::with_capacity(4 * parts().map(Vec::len).sum::<usize>());
    parts().for_each(|part| bytes.extend_from_slice(bytemuck::cast_slice(part)));
    bytes
}

fn point_name(group: usize, stage: usize) -> String {
    format!("point.{group}.{stage}")
}

/// Whether a run gives a file this name.
fn is_ours(name: &str) -> bool {
    let name = name.strip_suffix(".new").unwrap_or(name);
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["point", group, stage] => number(group) && number(stage),
        // While it is being written, a sum's file has `new` in place of its last number.
        [parameter, kind, "correction", first, end, ..] | [parameter, kind, first, end, ..] => {
            let known = Accumulate::ALL.iter().any(|a| a.name() == kind);
            known && parts.len() <= 6 && [parameter, first, end].into_iter().all(number)
        }
        _ => [STATE, LOCK, COMPLETE].contains(&name),
    }
}

/// Refuses a directory with files that no run of ours has made.
fn check_ours(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(|e| Error::reading(directory, e))? {
        let name = entry.map_err(|e| Error::reading(directory, e))?.file_name();
        if !is_ours(&name.to_string_lossy()) {
            let problem = "is no part of an interrupted run, for which this directory is needed; move it elsewhere";
            return Err(Error::file(directory, name.to_string_lossy(), problem));
        }
    }
    Ok(())
}

fn read_state(directory: &Path) -> std::result::Result<State, String> {
    let text = fs::read(directory.join(STATE)).map_err(|e| e.to_string())?;
    let state: State = serde_json::from_slice(&text).map_err(|_| "its state is damaged")?;
    if state.format != FORMAT || state.version != VERSION {
        return Err("it was made by another version of efface".into());
    }
    Ok(state)
}

fn read_point(directory: &Path, saved: &Point) -> std::result::Result<ResumePoint, String> {
    let bytes = fs::read(directory.join(point_name(saved.group, saved.stage))).map_err(|e| e.to_string())?;
    let lengths = || saved.deltas.iter().chain(&saved.head_rows).chain(&saved.losses);
    let total = lengths().try_fold(0usize, |sum, n| sum.checked_add(*n)).and_then(|n| n.checked_mul(4));
    if total != Some(bytes.len()) {
        return Err("its state is damaged".into());
    }
    let mut rest = &bytes[..];
    let mut take = |counts: &[usize]| -> Vec<Vec<f32>> {
        let mut one = |count: &usize| {
            let (first, later) = rest.split_at(count * 4);
            rest = later;
            bytemuck::pod_collect_to_vec(first)
        };
        counts.iter().map(&mut one).collect()
    };
    let (deltas, head_rows) = (take(&saved.deltas), take(&saved.head_rows));
    let losses = take(&saved.losses).into_iter().map(|tokens| SampleLoss { tokens }).collect();
    Ok(ResumePoint { group: saved.group, stage: saved.stage, deltas, head_rows, losses })
}

/// How a plan cuts the work: what the meaning of the stored files hangs on.
fn fingerprint(plan: &Plan) -> String {
    let cut = serde_json::json!([plan.chunks, plan.groups, plan.table_rows]);
    let hash = Sha256::digest(cut.to_string().as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file that appears whole or not at all. Not flushed to disk: a killed process loses nothing that it wrote, and
/// after a power cut the run starts over or says which file is damaged.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, bytes).map_err(|e| Error::writing(path, e))?;
    fs::rename(&temporary, path).map_err(|e| Error::writing(path, e))
}
