//! Buffers for intermediate results: taken, used, given back, taken again. Allocation clears memory and is slow; a pass asks
//! for the same few sizes over and over.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Buffer;

type Free = Mutex<HashMap<u64, Vec<Buffer>>>;

/// A device's unused scratch buffers, by size. They are freed as soon as the memory budget needs them.
#[derive(Debug, Default)]
pub(super) struct Pool(Arc<Free>);

/// A buffer from the pool; its content is whatever its last user left. Goes back when dropped.
#[derive(Debug)]
pub struct Lease {
    buffer: Buffer,
    home: Arc<Free>,
}

impl Pool {
    /// An unused buffer of exactly `bytes`, if there is one.
    pub(super) fn take(&self, bytes: u64) -> Option<Lease> {
        let buffer = lock(&self.0).get_mut(&bytes).and_then(Vec::pop)?;
        Some(self.lease(buffer))
    }

    /// Lets `buffer` come back to the pool.
    pub(super) fn lease(&self, buffer: Buffer) -> Lease {
        Lease { buffer, home: self.0.clone() }
    }

    /// Frees everything that is not in use.
    pub(super) fn empty(&self) {
        lock(&self.0).clear();
    }
}

impl Deref for Lease {
    type Target = Buffer;
    fn deref(&self) -> &Buffer {
        &self.buffer
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.home).entry(self.buffer.bytes()).or_default().push(self.buffer.clone());
    }
}

fn lock(free: &Free) -> MutexGuard<'_, HashMap<u64, Vec<Buffer>>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}
