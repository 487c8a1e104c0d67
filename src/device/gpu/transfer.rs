//! Bytes to the device and back, each copied at its place in the order of what is recorded.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::super::record::Track;
use super::staging::{self, Direction, Filled, PIECE, Ring, SMALLEST};
use super::{Gpu, State};
use crate::{Error, Result};

/// Uploads up to this size share a staging buffer. In bytes.
const SHARED: u64 = SMALLEST / 4;
/// Where the next upload into a shared buffer may begin.
const ALIGNMENT: u64 = wgpu::MAP_ALIGNMENT;

impl Gpu {
    pub(in crate::device) fn upload(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        for (i, piece) in bytes.chunks(PIECE as usize).enumerate() {
            let length = (piece.len() as u64).next_multiple_of(4);
            let (staging, at) = self.room(&mut state, length)?;
            staging::write(&staging, at, piece)?;
            let place = offset + i as u64 * PIECE;
            self.copies(&mut state, Track::Upload, length, |encoder| {
                encoder.copy_buffer_to_buffer(&staging, at, buffer, place, length);
            });
        }
        self.check()
    }

    /// Staging memory for an upload of `length` bytes: a buffer among the state's sources and where in it.
    fn room(&self, state: &mut State, length: u64) -> Result<(wgpu::Buffer, u64)> {
        if length <= SHARED {
            if let Some((buffer, used)) = state.open.as_mut().filter(|(buffer, used)| used + length <= buffer.size()) {
                let at = *used;
                *used = (at + length).next_multiple_of(ALIGNMENT);
                return Ok((buffer.clone(), at));
            }
            let buffer = self.source(state, SMALLEST)?;
            state.open = Some((buffer.clone(), length.next_multiple_of(ALIGNMENT)));
            return Ok((buffer, 0));
        }
        Ok((self.source(state, length)?, 0))
    }

    /// A staging buffer, after waiting for one to come back if need be.
    fn source(&self, state: &mut State, bytes: u64) -> Result<wgpu::Buffer> {
        loop {
            if let Some(buffer) = self.uploads.take(&self.device, bytes) {
                state.sources.push((buffer.clone(), self.uploads.clone()));
                return Ok(buffer);
            }
            // What is recorded may hold some; after that, the oldest submission does.
            self.flush(state)?;
            let most = state.in_flight.len().saturating_sub(1);
            self.limit_flight(state, most)?;
        }
    }

    /// Copies what a [`Stager`] has filled.
    pub(in crate::device) fn upload_filled(
        &self,
        buffer: &wgpu::Buffer,
        offset: u64,
        mut filled: Filled,
    ) -> Result<()> {
        let mut state = self.state();
        let Some(staging) = filled.buffer.take() else { return Ok(()) };
        let length = filled.bytes.next_multiple_of(4);
        self.copies(&mut state, Track::Upload, length, |encoder| {
            encoder.copy_buffer_to_buffer(&staging, 0, buffer, offset, length);
        });
        state.sources.push((staging, filled.ring.clone()));
        self.check()
    }

    pub(in crate::device) fn download(&self, buffer: &wgpu::Buffer, offset: u64, out: &mut [u8]) -> Result<()> {
        // The next piece is under way while this one is copied.
        let mut coming: Option<(Landing, &mut [u8])> = None;
        for (i, part) in out.chunks_mut(PIECE as usize).enumerate() {
            let length = (part.len() as u64).next_multiple_of(4);
            let staging = self.downloads.take_anyhow(&self.device, length);
            let landing = self.record_download(buffer, offset + i as u64 * PIECE, length, staging);
            if let Some((landing, part)) = coming.replace((landing, part)) {
                landing.finish(self, part)?;
            }
        }
        coming.map_or(Ok(()), |(landing, part)| landing.finish(self, part))
    }

    /// Begins a download that is looked at later; none where so much staging memory is not to be had.
    pub(in crate::device) fn begin_download(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Option<Landing> {
        let length = bytes.next_multiple_of(4).max(4);
        let staging = self.downloads.take(&self.device, length)?;
        Some(self.record_download(buffer, offset, length, staging))
    }

    fn record_download(&self, buffer: &wgpu::Buffer, offset: u64, length: u64, staging: wgpu::Buffer) -> Landing {
        let mut state = self.state();
        self.copies(&mut state, Track::Download, length, |encoder| {
            encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, length);
        });
        let arrival: Arc<Arrival> = Arc::default();
        state.targets.push(Target { staging: staging.clone(), length, arrival: arrival.clone() });
        let ring = self.downloads.clone();
        Landing { staging: Some(staging), ring, submission: state.submitted + 1, arrival }
    }

    /// A ring of `bytes` for one thread that fills staging memory while another computes.
    pub(in crate::device) fn stager(&self, bytes: u64) -> Ring {
        Ring::new(Direction::Up, bytes)
    }

    /// Fills staging memory of `ring` with at most [`PIECE`] bytes; waits until some is free.
    pub(in crate::device) fn fill(&self, ring: &Ring, bytes: &[u8]) -> Result<Filled> {
        loop {
            if let Some(buffer) = ring.take(&self.device, bytes.len() as u64) {
                let filled = Filled { buffer: Some(buffer.clone()), ring: ring.clone(), bytes: bytes.len() as u64 };
                staging::write(&buffer, 0, bytes)?;
                return Ok(filled);
            }
            if ring.is_closed() {
                return Err(Error::Device("what is being read is not wanted any more".into()));
            }
            self.poll(wgpu::PollType::Poll)?;
            ring.wait();
        }
    }
}

/// Lets the host have an upload's staging buffer back as soon as what reads it is complete.
pub(super) fn map_for_writing(buffer: wgpu::Buffer, ring: Ring) {
    let returned = buffer.clone();
    buffer.map_async(wgpu::MapMode::Write, .., move |mapped| match mapped {
        Ok(()) => ring.give(returned),
        Err(_) => ring.lose(returned.size()),
    });
}

/// Whether a download has arrived.
#[derive(Debug, Default)]
struct Arrival {
    mapped: Mutex<Option<bool>>,
    changed: Condvar,
}

/// Staging memory that something recorded writes.
#[derive(Debug)]
pub(super) struct Target {
    staging: wgpu::Buffer,
    length: u64,
    arrival: Arc<Arrival>,
}

impl Target {
    /// Lets the host have it as soon as what writes it is complete.
    pub(super) fn map(self) {
        let Target { staging, length, arrival } = self;
        staging.map_async(wgpu::MapMode::Read, ..length, move |mapped| {
            *arrival.mapped.lock().unwrap_or_else(PoisonError::into_inner) = Some(mapped.is_ok());
            arrival.changed.notify_all();
        });
    }
}

/// A download on its way.
#[derive(Debug)]
pub(in crate::device) struct Landing {
    staging: Option<wgpu::Buffer>,
    ring: Ring,
    submission: u64,
    arrival: Arc<Arrival>,
}

impl Landing {
    /// Waits for it and copies its first `out.len()` bytes.
    pub(in crate::device) fn finish(mut self, gpu: &Gpu, out: &mut [u8]) -> Result<()> {
        let arrived = || *self.arrival.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        if arrived().is_none() {
            let _span = gpu.recorder.span(|| "waiting for a download".into());
            gpu.wait_for(self.submission)?;
            // Another thread that polled may still be about to tell.
            let mut mapped = self.arrival.mapped.lock().unwrap_or_else(PoisonError::into_inner);
            while mapped.is_none() {
                gpu.check()?;
                mapped = self
                    .arrival
                    .changed
                    .wait_timeout(mapped, std::time::Duration::from_millis(1))
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(mapped, _)| mapped);
            }
        }
        let failed = |e: &dyn std::fmt::Display| Error::Device(format!("a download failed: {e}"));
        let staging = self.staging.take().ok_or_else(|| failed(&"it was taken"))?;
        let padded = (out.len() as u64).next_multiple_of(4).max(4);
        let view = staging.get_mapped_range(..padded).map_err(|e| failed(&e))?;
        out.copy_from_slice(&view[..out.len()]);
        drop(view);
        staging.unmap();
        self.ring.give(staging);
        gpu.check()
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(staging) = self.staging.take() {
            // It may still be written to: let it go with its last use.
            self.ring.lose(staging.size());
        }
    }
}
