//! What a device did and when, for `efface profile`. Off by default; an atomic load is all it then costs.
//!
//! Everything is an [`Event`] on one of five [`Track`]s, in seconds since the recording began. Host spans nest; on the other
//! tracks events follow one another. Where a GPU has timestamps its events come from them (`gpu/timestamps.rs`), otherwise
//! from host times around waits for the device, and [`Recording::clock`] says which.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use super::Launch;
use crate::kernels::Cost;

/// How closely a GPU's kernels are looked at. On the CPU both are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is added to what is submitted but timestamps at the boundaries of passes. The kernels within a pass share its
    /// time.
    Production,
    /// Every launch in a pass of its own, with timestamps at both ends. Exact for each kernel; the whole takes longer.
    Attribution,
}

/// What an event occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// The thread that reads weights ahead: from files, and into memory that the device reads.
    Read,
    /// The device copies what came from the host.
    Upload,
    /// The device computes.
    Compute,
    /// The device copies what goes to the host.
    Download,
    /// The thread that leads: what it works on, and what it waits for.
    Host,
}

impl Track {
    /// All of them.
    pub const ALL: [Track; 5] = [Track::Read, Track::Upload, Track::Compute, Track::Download, Track::Host];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Track::Read => "read",
            Track::Upload => "upload",
            Track::Compute => "compute",
            Track::Download => "download",
            Track::Host => "host",
        }
    }

    /// Whether what happens here keeps the device busy.
    pub const fn is_device(self) -> bool {
        matches!(self, Track::Upload | Track::Compute | Track::Download)
    }
}

/// Something that took time.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What it occupied.
    pub track: Track,
    /// When it began, in seconds since the recording did.
    pub begin: f64,
    /// When it ended.
    pub end: f64,
    /// What it was.
    pub work: Work,
}

/// What took time.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Kernels that ran one after the other; how much of the time each took is not known where there are several.
    Kernels(Vec<KernelRun>),
    /// So many bytes moved, in so many copies.
    Copies {
        /// All bytes.
        bytes: u64,
        /// Number of copies.
        count: u64,
    },
    /// A named part of the program.
    Span(String),
}

/// One launch of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelRun {
    /// `family/name`.
    pub name: &'static str,
    /// The shader's permutation.
    pub variant: &'static str,
    /// Its parameters in words.
    pub shape: String,
    /// What it moved and computed.
    pub cost: Cost,
}

impl KernelRun {
    pub(super) fn of(launch: &Launch<'_>) -> Self {
        let text = format!("{:?}", launch.shown);
        let inside = text.split_once('{').map_or(&*text, |(_, rest)| rest.trim_end_matches('}'));
        let Launch { shader, cost, .. } = launch;
        KernelRun { name: shader.name, variant: shader.variant, shape: inside.trim().into(), cost: *cost }
    }
}

/// Where the times of device events come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clock {
    /// The CPU computes: the host's clock.
    Host,
    /// The device's timestamps, laid over the host's clock so that nothing begins before it was submitted or ends after it
    /// was seen complete. `uncertainty`: by how many seconds all of them together may be off, to either side.
    Timestamps {
        /// In seconds.
        uncertainty: f64,
        /// Whether copies are timed, which takes timestamps between passes.
        copies: bool,
    },
    /// The adapter has no timestamps: the host waited for every submission, and its waits are what is known. Slower than
    /// without recording.
    Waits,
}

/// What was recorded.
#[derive(Clone, Debug)]
pub struct Recording {
    /// How closely.
    pub mode: Mode,
    /// Where times come from.
    pub clock: Clock,
    /// From the beginning to the end, in seconds.
    pub seconds: f64,
    /// All events, by track and beginning.
    pub events: Vec<Event>,
}

/// Takes notes while it is on.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// 0: off; else 1 + the mode's number.
    mode: AtomicU8,
    log: Mutex<Option<Log>>,
}

#[derive(Debug)]
struct Log {
    begin: Instant,
    leader: ThreadId,
    events: Vec<Event>,
}

impl Recorder {
    fn log(&self) -> MutexGuard<'_, Option<Log>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How closely is being recorded, if at all.
    pub(super) fn mode(&self) -> Option<Mode> {
        match self.mode.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Mode::Production),
            _ => Some(Mode::Attribution),
        }
    }

    /// Forgets everything and begins. The thread that calls is the one whose spans go to the host's track.
    pub(super) fn begin(&self, mode: Mode) {
        *self.log() = Some(Log { begin: Instant::now(), leader: thread::current().id(), events: Vec::new() });
        self.mode.store(if mode == Mode::Production { 1 } else { 2 }, Ordering::Relaxed);
    }

    /// Seconds since the recording began.
    pub(super) fn now(&self) -> f64 {
        self.log().as_ref().map_or(0.0, |log| log.begin.elapsed().as_secs_f64())
    }

    /// Ends, and hands out how long it took and what was noted.
    pub(super) fn end(&self) -> (f64, Vec<Event>) {
        self.mode.store(0, Ordering::Relaxed);
        let log = self.log().take();
        log.map_or((0.0, Vec::new()), |log| (log.begin.elapsed().as_secs_f64(), log.events))
    }

    /// Notes what began at `begin` and ends now.
    pub(super) fn note(&self, track: Track, begin: f64, work: Work) {
        if let Some(log) = &mut *self.log() {
            let end = log.begin.elapsed().as_secs_f64();
            log.events.push(Event { track, begin, end, work });
        }
    }

    /// A span of this thread that ends when it is dropped. `name` is asked for only when it is recorded.
    pub(super) fn span(&self, name: impl FnOnce() -> String) -> Span<'_> {
        let open = self.mode().map(|_| (self.now(), name()));
        Span { recorder: self, open }
    }
}

/// A part of the program that is going on; over when it is dropped.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct Span<'a> {
    recorder: &'a Recorder,
    open: Option<(f64, String)>,
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        if let Some((begin, name)) = self.open.take() {
            let leads = self.recorder.log().as_ref().is_some_and(|log| log.leader == thread::current().id());
            self.recorder.note(if leads { Track::Host } else { Track::Read }, begin, Work::Span(name));
        }
    }
}
