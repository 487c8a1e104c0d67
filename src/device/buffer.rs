//! Memory on a device, and how a launch on the CPU borrows it.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytemuck::Pod;
use memmap2::MmapMut;

use super::budget::Reservation;
use super::gpu::Retired;

/// Memory on a device. Cheap to clone; freed, and given back to the budget, with its last clone.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub(super) storage: Arc<Storage>,
    bytes: u64,
}

/// Where a buffer lies.
pub(super) enum Storage {
    /// Owned by the CPU device.
    Host { words: RwLock<Words>, _reservation: Reservation },
    /// Bytes that the CPU device uses in place, such as weights in a mapped file.
    Borrowed(Arc<dyn Deref<Target = [u8]> + Send + Sync>),
    /// Owned by a GPU.
    Gpu {
        buffer: wgpu::Buffer,
        /// Given back when the device is done with the buffer.
        reservation: Option<Reservation>,
        retired: Retired,
    },
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Storage::Gpu { reservation, retired, .. } = self
            && let Some(reservation) = reservation.take()
        {
            retired.retire(reservation);
        }
    }
}

/// Memory of the CPU device, zeroed; 4-byte words, so that every view as `f32` or `u32` is aligned.
pub(super) enum Words {
    /// From the allocator.
    Heap(Box<[u32]>),
    /// Pages of the system, in large ones where it has them: taking fresh memory page by page costs more than using it.
    Mapped(MmapMut),
}

impl Words {
    /// Bytes from which on memory is taken from the system directly: a few large pages.
    const LARGE: usize = 2 << 20;

    /// `bytes` of memory, a multiple of 4; none where there is not enough.
    pub(super) fn zeroed(bytes: usize) -> Option<Self> {
        if bytes >= Words::LARGE {
            let map = MmapMut::map_anon(bytes).ok()?;
            // A wish: without large pages it is memory all the same.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Some(Words::Mapped(map));
        }
        // Zeroed by the system where it hands out fresh pages anyway, so that they are touched first where they are used.
        bytemuck::allocation::try_zeroed_slice_box(bytes / 4).ok().map(Words::Heap)
    }
}

impl Deref for Words {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        match self {
            Words::Heap(words) => words,
            Words::Mapped(map) => bytemuck::cast_slice(map),
        }
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        match self {
            Words::Heap(words) => words,
            Words::Mapped(map) => bytemuck::cast_slice_mut(map),
        }
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Storage::Host { .. } => "Host",
            Storage::Borrowed(_) => "Borrowed",
            Storage::Gpu { .. } => "Gpu",
        })
    }
}

impl Buffer {
    pub(super) fn new(storage: Storage, bytes: u64) -> Self {
        Buffer { storage: Arc::new(storage), bytes }
    }

    /// The buffer's length in bytes, always a multiple of 4.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether two handles name the same memory.
    pub fn same(&self, other: &Buffer) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
    }
}

/// The buffers of one launch, as a CPU twin sees them: by the number of the shader's binding, from 1.
#[derive(Debug)]
pub struct CpuBindings<'a> {
    buffers: &'a [&'a Buffer],
}

impl<'a> CpuBindings<'a> {
    pub(crate) fn new(buffers: &'a [&'a Buffer]) -> Self {
        CpuBindings { buffers }
    }

    /// Borrows `binding` for reading.
    ///
    /// # Panics
    /// When the buffer is not on the CPU, which [`Device::launch`](super::Device::launch) has checked.
    pub fn read<T: Pod>(&self, binding: usize) -> Read<'a, T> {
        match &*self.buffers[binding - 1].storage {
            Storage::Host { words, .. } => Read {
                source: Source::Words(words.read().unwrap_or_else(PoisonError::into_inner)),
                element: PhantomData,
            },
            Storage::Borrowed(bytes) => Read { source: Source::Bytes(bytes), element: PhantomData },
            Storage::Gpu { .. } => unreachable!("launch checks that buffers and device match"),
        }
    }

    /// Borrows `binding` for reading and writing.
    ///
    /// # Panics
    /// When the buffer is not writable memory of the CPU, which [`Device::launch`](super::Device::launch) has checked.
    pub fn write<T: Pod>(&self, binding: usize) -> Write<'a, T> {
        match &*self.buffers[binding - 1].storage {
            Storage::Host { words, .. } => {
                Write { words: words.write().unwrap_or_else(PoisonError::into_inner), element: PhantomData }
            }
            _ => unreachable!("launch checks that written buffers are writable"),
        }
    }
}

enum Source<'a> {
    Words(RwLockReadGuard<'a, Words>),
    Bytes(&'a [u8]),
}

/// A buffer borrowed for reading, as elements `T`.
pub struct Read<'a, T> {
    source: Source<'a>,
    element: PhantomData<T>,
}

impl<T: Pod> Deref for Read<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.source {
            Source::Words(words) => bytemuck::cast_slice(words),
            Source::Bytes(bytes) => bytemuck::cast_slice(bytes),
        }
    }
}

/// A buffer borrowed for writing, as elements `T`.
pub struct Write<'a, T> {
    words: RwLockWriteGuard<'a, Words>,
    element: PhantomData<T>,
}

impl<T: Pod> Deref for Write<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.words)
    }
}

impl<T: Pod> DerefMut for Write<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.words)
    }
}
