//! Memory of a device: buffers and scratch under the budget, and what goes into and out of them.

use std::sync::Arc;

use bytemuck::Pod;
use rayon::prelude::*;

use super::buffer::{Buffer, Storage, Words};
use super::record::Track;
use super::scratch::Lease;
use super::{Backend, Device, budget};
use crate::{Error, Result};

/// Bytes that a thread copies or clears at a time on the CPU.
const PIECE: usize = 1 << 20;

/// Numbers that are uploaded at a time where they are made for it.
const UPLOADED: usize = 4 << 20;

impl Device {
    /// Allocates `bytes` (rounded up to 4), zeroed.
    ///
    /// # Errors
    /// When the budget or the binding limit does not allow it, or the device is out of memory.
    pub fn allocate(&self, bytes: u64) -> Result<Buffer> {
        let bytes = bytes.max(4).next_multiple_of(4);
        if bytes > self.0.binding_limit {
            let limit = self.0.binding_limit;
            return Err(Error::Device(format!("a buffer of {bytes} bytes exceeds the binding limit of {limit} bytes")));
        }
        let reservation = self.reserve(bytes)?;
        let storage = match &self.0.backend {
            Backend::Cpu => {
                let words = Words::zeroed(bytes as usize)
                    .ok_or_else(|| Error::Device(format!("out of memory: {bytes} bytes could not be allocated")))?;
                Storage::Host { words: words.into(), _reservation: reservation }
            }
            Backend::Gpu(gpu) => {
                let buffer = gpu.allocate(bytes)?;
                Storage::Gpu { buffer, reservation: Some(reservation), retired: gpu.retired().clone() }
            }
        };
        Ok(Buffer::new(storage, bytes))
    }

    /// Takes `bytes` from the budget; frees and waits for what stands in the way.
    fn reserve(&self, bytes: u64) -> Result<budget::Reservation> {
        if let Backend::Gpu(gpu) = &self.0.backend {
            gpu.reclaim()?;
        }
        if let Ok(reservation) = self.0.budget.reserve(bytes) {
            return Ok(reservation);
        }
        // What lies unused in the pool is free memory in all but name.
        self.0.pool.empty();
        loop {
            let reserved = self.0.budget.reserve(bytes);
            match &self.0.backend {
                Backend::Gpu(gpu) if reserved.is_err() && gpu.reclaim_oldest()? => {}
                Backend::Cpu if reserved.is_err() && self.0.reading.wait_for_one() => self.0.pool.empty(),
                _ => return reserved,
            }
        }
    }

    /// A buffer of `bytes` (rounded up to 4) for an intermediate result, with arbitrary content; it is used again after it
    /// is dropped.
    ///
    /// # Errors
    /// As [`Device::allocate`].
    pub fn scratch(&self, bytes: u64) -> Result<Lease> {
        let bytes = bytes.max(4).next_multiple_of(4);
        match self.0.pool.take(bytes) {
            Some(lease) => Ok(lease),
            None => Ok(self.0.pool.lease(self.allocate(bytes)?)),
        }
    }

    /// Frees all scratch memory that is not in use.
    pub fn free_scratch(&self) {
        self.0.pool.empty();
    }

    /// Allocates a buffer and fills it with `data`.
    ///
    /// # Errors
    /// As [`Device::allocate`].
    pub fn upload_new<T: Pod>(&self, data: &[T]) -> Result<Buffer> {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let buffer = self.allocate(bytes.len() as u64)?;
        self.upload(&buffer, 0, bytes)?;
        Ok(buffer)
    }

    /// Makes `bytes` (read only) available to kernels: in place on the CPU, as a copy on a GPU. Only kernels that read bytes
    /// (stored weights) can be given such a buffer, since it need not be aligned.
    ///
    /// # Errors
    /// As [`Device::allocate`].
    pub fn lend(&self, bytes: Arc<dyn std::ops::Deref<Target = [u8]> + Send + Sync>) -> Result<Buffer> {
        if self.is_cpu() {
            let length = bytes.len() as u64;
            return Ok(Buffer::new(Storage::Borrowed(bytes), length));
        }
        let buffer = self.allocate(bytes.len() as u64)?;
        self.upload(&buffer, 0, &bytes)?;
        Ok(buffer)
    }

    /// Writes `bytes` at `offset` (a multiple of 4). A last part that does not fill 4 bytes is padded with zeros.
    ///
    /// # Errors
    /// When the range does not fit, the buffer cannot be written, or the device failed.
    pub fn upload(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        check_range(buffer, offset, bytes.len() as u64)?;
        match (&self.0.backend, &*buffer.storage) {
            (Backend::Cpu, Storage::Host { words, .. }) => {
                let mut words = words.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                self.noted(Track::Upload, bytes.len() as u64, || {
                    copy(bytes, &mut bytemuck::cast_slice_mut::<u32, u8>(&mut words)[offset as usize..][..bytes.len()]);
                });
                Ok(())
            }
            (Backend::Gpu(gpu), Storage::Gpu { buffer, .. }) => gpu.upload(buffer, offset, bytes),
            _ => Err(foreign()),
        }
    }

    /// Writes the buffer's first `count` numbers, which `make` makes a range at a time, in order: where they are to lie on the
    /// CPU, without a copy of all of them elsewhere.
    ///
    /// # Errors
    /// When they do not fit, the buffer cannot be written, the device failed, or whatever `make` returns.
    pub fn fill(
        &self,
        buffer: &Buffer,
        count: usize,
        mut make: impl FnMut(std::ops::Range<usize>, &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        check_range(buffer, 0, count as u64 * 4)?;
        match (&self.0.backend, &*buffer.storage) {
            (Backend::Cpu, Storage::Host { words, .. }) => {
                let mut words = words.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                let values = &mut bytemuck::cast_slice_mut::<u32, f32>(&mut words)[..count];
                self.noted(Track::Upload, count as u64 * 4, || make(0..count, values))
            }
            _ => {
                let mut piece = vec![0.0; count.min(UPLOADED)];
                for start in (0..count).step_by(UPLOADED) {
                    let range = start..count.min(start + UPLOADED);
                    make(range.clone(), &mut piece[..range.len()])?;
                    self.upload(buffer, 4 * start as u64, bytemuck::cast_slice(&piece[..range.len()]))?;
                }
                Ok(())
            }
        }
    }

    /// Reads `out.len()` bytes from `offset` (a multiple of 4) after all recorded work.
    ///
    /// # Errors
    /// When the range does not fit or the device failed.
    pub fn download(&self, buffer: &Buffer, offset: u64, out: &mut [u8]) -> Result<()> {
        check_range(buffer, offset, out.len() as u64)?;
        match (&self.0.backend, &*buffer.storage) {
            (Backend::Cpu, Storage::Host { words, .. }) => {
                let words = words.read().unwrap_or_else(std::sync::PoisonError::into_inner);
                self.noted(Track::Download, out.len() as u64, || {
                    copy(&bytemuck::cast_slice::<u32, u8>(&words)[offset as usize..][..out.len()], out);
                });
                Ok(())
            }
            (Backend::Cpu, Storage::Borrowed(bytes)) => {
                out.copy_from_slice(&bytes[offset as usize..][..out.len()]);
                Ok(())
            }
            (Backend::Gpu(gpu), Storage::Gpu { buffer, .. }) => gpu.download(buffer, offset, out),
            _ => Err(foreign()),
        }
    }

    /// The first `count` elements of `buffer`.
    ///
    /// # Errors
    /// As [`Device::download`].
    pub fn read<T: Pod>(&self, buffer: &Buffer, count: usize) -> Result<Vec<T>> {
        let mut values = bytemuck::allocation::zeroed_vec(count);
        self.download(buffer, 0, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    /// Sets all of `buffer` to zero.
    ///
    /// # Errors
    /// When the buffer cannot be written or the device failed.
    pub fn clear(&self, buffer: &Buffer) -> Result<()> {
        match (&self.0.backend, &*buffer.storage) {
            (Backend::Cpu, Storage::Host { words, .. }) => {
                let mut words = words.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                words.par_chunks_mut(PIECE / 4).for_each(|piece| piece.fill(0));
                Ok(())
            }
            (Backend::Gpu(gpu), Storage::Gpu { buffer, .. }) => gpu.clear(buffer),
            _ => Err(foreign()),
        }
    }
}

/// Copies on all cores: what takes the time is mostly fresh memory.
fn copy(from: &[u8], to: &mut [u8]) {
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}

pub(super) fn check_range(buffer: &Buffer, offset: u64, length: u64) -> Result<()> {
    if !offset.is_multiple_of(4) || offset.checked_add(length).is_none_or(|end| end > buffer.bytes()) {
        let bytes = buffer.bytes();
        return Err(Error::Device(format!(
            "bytes {offset} to {offset}+{length} are outside a buffer of {bytes} bytes"
        )));
    }
    Ok(())
}

pub(super) fn foreign() -> Error {
    Error::Device("a buffer belongs to another device or cannot be written".into())
}
