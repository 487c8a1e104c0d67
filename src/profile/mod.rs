//! What a recording of a device says: where the time went, kernel by kernel; what the device waited for; and a trace that
//! Perfetto opens.
//!
//! | file | what it holds |
//! |---|---|
//! | `runs.rs` | every launch with its own time, also where only a pass's is known |
//! | `gaps.rs` | when the device was idle, and what the host was doing then |
//! | `trace.rs` | the Trace Event format |

mod gaps;
mod runs;
mod trace;

use std::collections::BTreeMap;

use serde::Serialize;

pub use gaps::{Cause, Gap};
pub use trace::trace;

use crate::device::record::{Clock, Mode, Recording, Track, Work};
use crate::kernels::Cost;
use gaps::Idle;
use runs::{Run, runs};

/// What a device can do at most, as `efface bench` measures it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Roofs {
    /// Bytes moved between memory and processor in a second.
    pub bytes_per_second: f64,
    /// Operations in a second; a fused multiply-add counts as two.
    pub operations_per_second: f64,
}

impl Roofs {
    /// The least time that work of this cost takes, in seconds.
    pub fn seconds(&self, cost: Cost) -> f64 {
        (cost.bytes as f64 / self.bytes_per_second).max(cost.operations as f64 / self.operations_per_second)
    }
}

/// All launches of one variant of a kernel.
#[derive(Clone, Debug, Serialize)]
pub struct KernelTotal {
    /// `family/name`.
    pub kernel: String,
    /// The shader's permutation.
    pub variant: String,
    /// Launches.
    pub calls: u64,
    /// Their time, in seconds.
    pub seconds: f64,
    /// Its share of all kernels' time.
    pub share: f64,
    /// What they moved, by the cost model, in bytes.
    pub bytes: u64,
    /// What they computed, by the cost model.
    pub operations: u64,
    /// Share of the roof that binds each of them; none where roofs are not known.
    pub roof_share: Option<f64>,
    /// Launches whose time was shared out of a pass's.
    pub modelled: u64,
}

impl KernelTotal {
    /// 1e9 bytes in a second.
    pub fn gigabytes_per_second(&self) -> f64 {
        rate(self.bytes, self.seconds)
    }

    /// 1e9 operations in a second.
    pub fn gigaflops(&self) -> f64 {
        rate(self.operations, self.seconds)
    }
}

/// 1e9 of something in a second; 0 where no time passed.
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds / 1e9 } else { 0.0 }
}

/// What happened on a track.
#[derive(Clone, Debug, Serialize)]
pub struct TrackTotal {
    /// `read`, `upload`, `compute`, `download` or `host`.
    pub track: &'static str,
    /// Events.
    pub events: u64,
    /// Time with at least one of them, in seconds.
    pub seconds: f64,
    /// Bytes that were copied.
    pub bytes: u64,
}

/// Where the time of a recorded run went.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// `production` or `attribution`.
    pub mode: &'static str,
    /// Where the times come from, in words.
    pub clock: String,
    /// From the beginning to the end, in seconds.
    pub seconds: f64,
    /// All kernels together, in seconds.
    pub kernel_seconds: f64,
    /// The run's time over its kernels'.
    pub over_kernels: f64,
    /// Kernels by their time, the longest first.
    pub kernels: Vec<KernelTotal>,
    /// The tracks.
    pub tracks: Vec<TrackTotal>,
    /// Share of the time in which the device neither computed nor copied.
    pub idle_share: f64,
    /// What the host was doing while the device was idle, all gaps together, the longest first.
    pub idle_causes: Vec<Cause>,
    /// The longest gaps, the longest first.
    pub gaps: Vec<Gap>,
    /// What shares of roofs refer to.
    pub roofs: Option<Roofs>,
}

impl Profile {
    /// Makes sums of a recording. `roofs`: what the device can do, where it is known. `longest`: gaps to list.
    pub fn of(recording: &Recording, roofs: Option<Roofs>, longest: usize) -> Self {
        let runs = runs(recording, roofs);
        let kernels = totals(&runs, roofs);
        let kernel_seconds = kernels.iter().map(|kernel| kernel.seconds).sum();
        let idle = Idle::of(recording);
        Profile {
            mode: mode_name(recording.mode),
            clock: clock_in_words(recording.clock),
            seconds: recording.seconds,
            kernel_seconds,
            over_kernels: if kernel_seconds > 0.0 { recording.seconds / kernel_seconds } else { f64::INFINITY },
            kernels,
            tracks: Track::ALL.into_iter().map(|track| track_total(recording, track)).collect(),
            idle_share: if recording.seconds > 0.0 { idle.seconds() / recording.seconds } else { 0.0 },
            idle_causes: idle.causes(),
            gaps: idle.longest(longest),
            roofs,
        }
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Production => "production",
        Mode::Attribution => "attribution",
    }
}

fn clock_in_words(clock: Clock) -> String {
    match clock {
        Clock::Host => "host clock around every kernel".into(),
        Clock::Timestamps { uncertainty, copies } => format!(
            "device timestamps, laid over the host's clock to within {:.0} µs{}",
            uncertainty * 1e6,
            if copies { "" } else { "; this adapter cannot time copies" }
        ),
        Clock::Waits => {
            "the adapter has no timestamps: host clock around waits for every submission, which slow it down".into()
        }
    }
}

fn totals(runs: &[Run<'_>], roofs: Option<Roofs>) -> Vec<KernelTotal> {
    let mut by_kernel: BTreeMap<(&str, &str), (KernelTotal, f64)> = BTreeMap::new();
    for run in runs {
        let kernel = run.kernel;
        let (total, least) = by_kernel.entry((kernel.name, kernel.variant)).or_insert_with(|| {
            let (kernel, variant) = (kernel.name.to_string(), kernel.variant.to_string());
            let (calls, modelled, bytes, operations) = (0, 0, 0, 0);
            let empty = KernelTotal {
                kernel,
                variant,
                calls,
                seconds: 0.0,
                share: 0.0,
                bytes,
                operations,
                roof_share: None,
                modelled,
            };
            (empty, 0.0)
        });
        total.calls += 1;
        total.seconds += run.end - run.begin;
        total.bytes += kernel.cost.bytes;
        total.operations += kernel.cost.operations;
        total.modelled += u64::from(run.modelled);
        *least += roofs.map_or(0.0, |roofs| roofs.seconds(kernel.cost));
    }
    let all: f64 = by_kernel.values().map(|(total, _)| total.seconds).sum();
    let finished = by_kernel.into_values().map(|(total, least)| KernelTotal {
        share: if all > 0.0 { total.seconds / all } else { 0.0 },
        roof_share: roofs.filter(|_| total.seconds > 0.0).map(|_| least / total.seconds),
        ..total
    });
    let mut totals: Vec<KernelTotal> = finished.collect();
    totals.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    totals
}

fn track_total(recording: &Recording, track: Track) -> TrackTotal {
    let mut total = TrackTotal { track: track.name(), events: 0, seconds: 0.0, bytes: 0 };
    let mut until = f64::NEG_INFINITY;
    for event in recording.events.iter().filter(|event| event.track == track) {
        total.events += match &event.work {
            Work::Kernels(kernels) => kernels.len() as u64,
            Work::Copies { count, .. } => *count,
            Work::Span(_) => 1,
        };
        if let Work::Copies { bytes, .. } = event.work {
            total.bytes += bytes;
        }
        // Spans nest: time counts once.
        total.seconds += (event.end - event.begin.max(until)).max(0.0);
        until = until.max(event.end);
    }
    total
}
