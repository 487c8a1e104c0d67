//! Downloads that are looked at later, and uploads that another thread prepares.

use bytemuck::Pod;

use super::buffer::Storage;
use super::gpu::{Filled, Landing, PIECE, Ring};
use super::record::{Track, Work};
use super::{Backend, Buffer, Device, check_range, foreign};
use crate::Result;

/// Elements on their way to the host: as they are where the download was begun, whatever is recorded after that.
#[derive(Debug)]
#[must_use = "nothing is known of a download until it is finished"]
pub struct Download<T>(State<T>);

#[derive(Debug)]
enum State<T> {
    Here(Vec<T>),
    Coming { device: Device, landing: Landing, count: usize },
}

impl<T: Pod> Download<T> {
    /// Elements that are on the host already.
    pub fn here(values: Vec<T>) -> Self {
        Download(State::Here(values))
    }

    /// Waits until they are here.
    ///
    /// # Errors
    /// When the device failed.
    pub fn finish(self) -> Result<Vec<T>> {
        match self.0 {
            State::Here(values) => Ok(values),
            State::Coming { device, landing, count } => {
                let Backend::Gpu(gpu) = &device.0.backend else { return Err(foreign()) };
                let mut values = bytemuck::allocation::zeroed_vec(count);
                landing.finish(gpu, bytemuck::cast_slice_mut(&mut values))?;
                Ok(values)
            }
        }
    }
}

/// Staging memory of a thread that prepares uploads. What was prepared is copied by [`Device::upload_staged`].
#[derive(Debug)]
pub struct Stager {
    device: Device,
    /// None on the CPU, which needs no staging.
    ring: Option<Ring>,
}

/// Bytes on their way to the device.
#[derive(Debug)]
pub struct Staged(Filled);

impl Stager {
    /// Bytes that are staged at once, at most.
    pub const PIECE: usize = PIECE as usize;

    /// Whether anything has to be staged for this device: the CPU uses bytes where they are.
    pub fn is_needed(&self) -> bool {
        self.ring.is_some()
    }

    /// Copies at most [`Stager::PIECE`] bytes into staging memory; waits until some is free, which it is only when someone
    /// uploads and submits what was staged before.
    ///
    /// # Errors
    /// When the device failed, or nothing more is wanted.
    pub fn stage(&self, bytes: &[u8]) -> Result<Staged> {
        match (&self.device.0.backend, &self.ring) {
            (Backend::Gpu(gpu), Some(ring)) => gpu.fill(ring, bytes).map(Staged),
            _ => Err(foreign()),
        }
    }

    /// Lets go of whoever waits in [`Stager::stage`].
    pub fn close(&self) {
        if let Some(ring) = &self.ring {
            ring.close();
        }
    }
}

impl Staged {
    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

impl Device {
    /// Staging memory of at most `bytes`, for a thread that prepares uploads while another computes. It is not part of the
    /// memory budget: it is host memory, or, on cards whose memory the host can address, as little of the device's.
    pub fn stager(&self, bytes: u64) -> Stager {
        let ring = match &self.0.backend {
            Backend::Cpu => None,
            Backend::Gpu(gpu) => Some(gpu.stager(bytes)),
        };
        Stager { device: self.clone(), ring }
    }

    /// Bytes of staging memory now, beside that of [`Stager`]s: at most 64 MiB for uploads and 1 GiB for downloads, and
    /// none on the CPU. Not part of the memory budget, as there.
    pub fn staging_memory(&self) -> u64 {
        match &self.0.backend {
            Backend::Cpu => 0,
            Backend::Gpu(gpu) => gpu.staging_bytes(),
        }
    }

    /// Writes what a [`Stager`] of this device has prepared at `offset` (a multiple of 4).
    ///
    /// # Errors
    /// When the range does not fit, the buffer cannot be written, or the device failed.
    pub fn upload_staged(&self, buffer: &Buffer, offset: u64, staged: Staged) -> Result<()> {
        check_range(buffer, offset, staged.bytes())?;
        match (&self.0.backend, &*buffer.storage) {
            (Backend::Gpu(gpu), Storage::Gpu { buffer, .. }) => gpu.upload_filled(buffer, offset, staged.0),
            _ => Err(foreign()),
        }
    }

    /// Begins to read the first `count` elements of `buffer`, as recorded work leaves them, without waiting.
    ///
    /// # Errors
    /// When the range does not fit or the device failed.
    pub fn read_later<T: Pod>(&self, buffer: &Buffer, count: usize) -> Result<Download<T>> {
        let bytes = (count * size_of::<T>()) as u64;
        check_range(buffer, 0, bytes)?;
        if let (Backend::Gpu(gpu), Storage::Gpu { buffer, .. }) = (&self.0.backend, &*buffer.storage)
            && let Some(landing) = gpu.begin_download(buffer, 0, bytes)
        {
            return Ok(Download(State::Coming { device: self.clone(), landing, count }));
        }
        Ok(Download(State::Here(self.read(buffer, count)?)))
    }

    /// Runs `copy` and notes it, on the CPU, where copies take the caller's time.
    pub(super) fn noted<T>(&self, track: Track, bytes: u64, copy: impl FnOnce() -> T) -> T {
        let recorder = &self.0.recorder;
        if recorder.mode().is_none() {
            return copy();
        }
        let begin = recorder.now();
        let done = copy();
        recorder.note(track, begin, Work::Copies { bytes, count: 1 });
        done
    }
}
