//! Memory that both the host and the device reach: rings of buffers that stay mapped while the host has them, and are lent
//! to the device for the time of a copy.
//!
//! A ring's memory is bounded. It is host memory, or, on cards whose whole memory the host can address, device memory that
//! the host writes across the bus; wgpu does not tell which. It is not part of the memory budget.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Error, Result};

/// The smallest buffer of a ring, in bytes.
pub(super) const SMALLEST: u64 = 64 << 10;
/// The largest piece that goes through a ring at once, in bytes.
pub(in crate::device) const PIECE: u64 = 8 << 20;

/// Which way a ring's bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the host.
    Up,
    /// To the host.
    Down,
}

/// A bounded set of staging buffers. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::device) struct Ring(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    direction: Direction,
    limit: u64,
    closed: AtomicBool,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of all buffers that exist.
    made: u64,
    free: Vec<wgpu::Buffer>,
}

impl Ring {
    /// A ring of at most `limit` bytes, or of a single buffer where that is larger.
    pub(super) fn new(direction: Direction, limit: u64) -> Self {
        let (closed, state, returned) = (AtomicBool::new(false), Mutex::default(), Condvar::new());
        Ring(Arc::new(Shared { direction, limit, closed, state, returned }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of at least `bytes` that the host may write (or that the device may copy to); none while all are on their
    /// way.
    pub(super) fn take(&self, device: &wgpu::Device, bytes: u64) -> Option<wgpu::Buffer> {
        let size = bytes.max(SMALLEST).next_power_of_two();
        let mut state = self.state();
        if let Some(place) = state.free.iter().position(|buffer| buffer.size() == size) {
            return Some(state.free.swap_remove(place));
        }
        while state.made > 0 && state.made + size > self.0.limit {
            state.made -= state.free.pop()?.size();
        }
        state.made += size;
        Some(self.make(device, size))
    }

    /// As [`Ring::take`], beyond the limit if need be: for what could not go on otherwise, one piece at a time.
    pub(super) fn take_anyhow(&self, device: &wgpu::Device, bytes: u64) -> wgpu::Buffer {
        self.take(device, bytes).unwrap_or_else(|| {
            let size = bytes.max(SMALLEST).next_power_of_two();
            self.state().made += size;
            self.make(device, size)
        })
    }

    fn make(&self, device: &wgpu::Device, size: u64) -> wgpu::Buffer {
        let (label, usage) = match self.0.direction {
            Direction::Up => ("upload", wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC),
            Direction::Down => ("download", wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
        };
        let mapped_at_creation = self.0.direction == Direction::Up;
        device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation })
    }

    /// Gives a buffer back: mapped, where the host writes to it.
    pub(super) fn give(&self, buffer: wgpu::Buffer) {
        let mut state = self.state();
        if state.made > self.0.limit && state.made > buffer.size() {
            state.made -= buffer.size();
        } else {
            state.free.push(buffer);
        }
        drop(state);
        self.0.returned.notify_all();
    }

    /// What was taken will not come back.
    pub(super) fn lose(&self, bytes: u64) {
        self.state().made -= bytes;
        self.0.returned.notify_all();
    }

    /// Waits a moment for a buffer to come back; someone has to poll the device meanwhile.
    pub(super) fn wait(&self) {
        const MOMENT: Duration = Duration::from_micros(300);
        let state = self.state();
        drop(self.0.returned.wait_timeout(state, MOMENT));
    }

    /// Tells whoever waits that nothing will be taken from this ring any more.
    pub(in crate::device) fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.returned.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::SeqCst)
    }

    /// Bytes of all its buffers.
    pub(super) fn bytes(&self) -> u64 {
        self.state().made
    }
}

/// Writes `bytes` at `offset` of a mapped staging buffer, padded with zeros to whole words.
pub(super) fn write(buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
    let padded = (bytes.len() as u64).next_multiple_of(4);
    let mut view = buffer
        .get_mapped_range_mut(offset..offset + padded)
        .map_err(|e| Error::Device(format!("staging memory cannot be written: {e}")))?;
    view.slice(..bytes.len()).copy_from_slice(bytes);
    if bytes.len() < padded as usize {
        let rest = padded as usize - bytes.len();
        view.slice(bytes.len()..).copy_from_slice(&[0; 4][..rest]);
    }
    Ok(())
}

/// A staging buffer that the host has filled; goes back to its ring when dropped unused.
#[derive(Debug)]
pub(in crate::device) struct Filled {
    pub(super) buffer: Option<wgpu::Buffer>,
    pub(super) ring: Ring,
    pub(super) bytes: u64,
}

impl Filled {
    /// How many bytes were written.
    pub(in crate::device) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.ring.give(buffer);
        }
    }
}
