//! What a GPU did and when, while a recording is on: timestamps at the boundaries of passes and around copies, and how they
//! are laid over the host's clock.
//!
//! A device counts ticks of its own clock, and nothing says how that clock and the host's are related. What is known is
//! order: no pass begins before the host had handed its submission over, and none ends after the host saw the submission
//! complete. Every submission thus bounds the offset between the clocks from both sides; the middle of what all of them allow
//! is taken, and half of the width is the uncertainty.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::record::{Clock, Event, KernelRun, Mode, Recorder, Track, Work};
use crate::{Error, Result};

/// Queries of a set: the most that WebGPU allows.
const QUERIES: u32 = 4096;

/// A place for the two timestamps of one piece of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    set: usize,
    first: u32,
}

impl Pair {
    pub(super) fn begin(self) -> u32 {
        self.first
    }

    pub(super) fn end(self) -> u32 {
        self.first + 1
    }
}

/// Work between two timestamps.
#[derive(Debug)]
struct Piece {
    pair: Option<Pair>,
    submission: u64,
    track: Track,
    work: Work,
}

/// A submission as the host saw it, in seconds since the recording began.
#[derive(Debug)]
struct Seen {
    number: u64,
    submitted: f64,
    completed: Arc<Mutex<Option<f64>>>,
}

/// What is known of a recording's device work before its timestamps are read.
#[derive(Debug)]
pub(super) struct Tape {
    mode: Mode,
    timestamps: bool,
    copies: bool,
    sets: Vec<wgpu::QuerySet>,
    used: u32,
    pieces: Vec<Piece>,
    seen: Vec<Seen>,
}

impl Tape {
    /// An empty tape for a device with these features.
    pub(super) fn new(mode: Mode, features: wgpu::Features) -> Self {
        Tape {
            mode,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            copies: features.contains(wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS),
            sets: Vec::new(),
            used: QUERIES,
            pieces: Vec::new(),
            seen: Vec::new(),
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the host has to wait for every submission to know its time.
    pub(super) fn waits(&self) -> bool {
        !self.timestamps
    }

    fn pair(&mut self, device: &wgpu::Device) -> Pair {
        if self.used == QUERIES {
            self.sets.push(device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("recording"),
                ty: wgpu::QueryType::Timestamp,
                count: QUERIES,
            }));
            self.used = 0;
        }
        let pair = Pair { set: self.sets.len() - 1, first: self.used };
        self.used += 2;
        pair
    }

    /// A pass begins: where its timestamps go.
    pub(super) fn pass(&mut self, device: &wgpu::Device) -> Option<(Pair, &wgpu::QuerySet)> {
        let pair = self.timestamps.then(|| self.pair(device))?;
        Some((pair, &self.sets[pair.set]))
    }

    /// Copies begin.
    pub(super) fn begin_copies(&mut self, device: &wgpu::Device, encoder: &mut wgpu::CommandEncoder) -> Option<Pair> {
        let pair = (self.timestamps && self.copies).then(|| self.pair(device))?;
        encoder.write_timestamp(&self.sets[pair.set], pair.begin());
        Some(pair)
    }

    /// Copies are over.
    pub(super) fn end_copies(&self, encoder: &mut wgpu::CommandEncoder, pair: Option<Pair>) {
        if let Some(pair) = pair {
            encoder.write_timestamp(&self.sets[pair.set], pair.end());
        }
    }

    /// What was recorded between two timestamps, for submission `number`.
    pub(super) fn add(&mut self, pair: Option<Pair>, submission: u64, track: Track, work: Work) {
        self.pieces.push(Piece { pair, submission, track, work });
    }

    /// Submission `number` was handed over. Returns where its completion is to be noted.
    pub(super) fn submitted(&mut self, number: u64, at: f64) -> Arc<Mutex<Option<f64>>> {
        let completed: Arc<Mutex<Option<f64>>> = Arc::default();
        self.seen.push(Seen { number, submitted: at, completed: completed.clone() });
        completed
    }

    /// Reads the timestamps, after everything is complete, and makes events of the pieces.
    pub(super) fn events(self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<(Clock, Vec<Event>)> {
        if !self.timestamps {
            return Ok((Clock::Waits, self.waited()));
        }
        let period = f64::from(queue.get_timestamp_period()) * 1e-9;
        let mut ticks = Vec::new();
        for (i, set) in self.sets.iter().enumerate() {
            let count = if i + 1 == self.sets.len() { self.used } else { QUERIES };
            ticks.push(resolved(device, queue, set, count)?);
        }
        // Small numbers keep their digits.
        let first = ticks.iter().filter_map(|set| set.iter().filter(|t| **t > 0).min()).min().copied().unwrap_or(0);
        let seconds = |pair: Pair| {
            let tick = |query: u32| ticks[pair.set][query as usize].saturating_sub(first) as f64 * period;
            let begin = tick(pair.begin());
            // Queries of a driver that writes them in no particular order.
            (begin, tick(pair.end()).max(begin))
        };
        let (offset, uncertainty) = self.offset(seconds);
        let event = |piece: Piece| {
            let (begin, end) = seconds(piece.pair?);
            Some(Event { track: piece.track, begin: begin + offset, end: end + offset, work: piece.work })
        };
        let copies = self.copies;
        let mut events: Vec<Event> = self.pieces.into_iter().filter_map(event).collect();
        disjoint(&mut events);
        Ok((Clock::Timestamps { uncertainty, copies }, events))
    }

    /// What has to be added to device times, and by how much that may be wrong.
    fn offset(&self, seconds: impl Fn(Pair) -> (f64, f64)) -> (f64, f64) {
        let mut extents: HashMap<u64, (f64, f64)> = HashMap::new();
        for piece in &self.pieces {
            let Some((begin, end)) = piece.pair.map(&seconds) else { continue };
            let extent = extents.entry(piece.submission).or_insert((begin, end));
            *extent = (extent.0.min(begin), extent.1.max(end));
        }
        let (mut least, mut most) = (f64::NEG_INFINITY, f64::INFINITY);
        for seen in &self.seen {
            let Some((begin, end)) = extents.get(&seen.number) else { continue };
            least = least.max(seen.submitted - begin);
            if let Some(completed) = *seen.completed.lock().unwrap_or_else(PoisonError::into_inner) {
                most = most.min(completed - end);
            }
        }
        match (least.is_finite(), most.is_finite()) {
            (true, true) => (f64::midpoint(least, most), (most - least).abs() / 2.0),
            (true, false) => (least, f64::INFINITY),
            _ => (0.0, f64::INFINITY),
        }
    }

    /// Events of a device without timestamps: a submission's work shares the time that the host waited for it.
    fn waited(self) -> Vec<Event> {
        let mut by_submission: HashMap<u64, Vec<KernelRun>> = HashMap::new();
        for piece in self.pieces {
            if let Work::Kernels(kernels) = piece.work {
                by_submission.entry(piece.submission).or_default().extend(kernels);
            }
        }
        let event = |seen: &Seen| {
            let end = (*seen.completed.lock().unwrap_or_else(PoisonError::into_inner))?;
            let work = Work::Kernels(by_submission.remove(&seen.number)?);
            Some(Event { track: Track::Compute, begin: seen.submitted, end, work })
        };
        self.seen.iter().filter_map(event).collect()
    }
}

/// Clocks of a device's stages may differ by some ticks: what follows begins no earlier than what was before it ended.
fn disjoint(events: &mut [Event]) {
    events.sort_by(|a, b| a.begin.total_cmp(&b.begin));
    let mut until = f64::NEG_INFINITY;
    for event in events {
        event.begin = event.begin.max(until);
        event.end = event.end.max(event.begin);
        until = event.end;
    }
}

/// The values of a set's first `count` queries.
fn resolved(device: &wgpu::Device, queue: &wgpu::Queue, set: &wgpu::QuerySet, count: u32) -> Result<Vec<u64>> {
    let size = u64::from(count) * 8;
    let buffer = |usage| {
        device.create_buffer(&wgpu::BufferDescriptor { label: Some("queries"), size, usage, mapped_at_creation: false })
    };
    let values = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
    let mapped = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.resolve_query_set(set, 0..count, &values, 0);
    encoder.copy_buffer_to_buffer(&values, 0, &mapped, 0, size);
    queue.submit([encoder.finish()]);
    mapped.map_async(wgpu::MapMode::Read, .., |_| {});
    let failed = |e: &dyn std::fmt::Display| Error::Device(format!("timestamps could not be read: {e}"));
    device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| failed(&e))?;
    let view = mapped.get_mapped_range(..).map_err(|e| failed(&e))?;
    Ok(bytemuck::pod_collect_to_vec(&view))
}

/// Notes a submission's completion for a tape.
pub(super) fn note(recorder: &Recorder, completed: &Mutex<Option<f64>>) {
    *completed.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorder.now());
}

/// The launches of one pass, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct PassNotes {
    pub(super) pair: Option<Pair>,
    pub(super) kernels: Vec<KernelRun>,
}
