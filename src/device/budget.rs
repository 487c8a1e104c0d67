//! Our own accounting of device memory: drivers overcommit, so a budget is only hard if every allocation asks here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// Bytes in use, the highest they have been, and the limit.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    limit: AtomicU64,
    used: AtomicU64,
    peak: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Budget(Arc::new(Counters { limit: AtomicU64::new(limit), used: AtomicU64::new(0), peak: AtomicU64::new(0) }))
    }

    /// Takes `bytes` from the budget until the reservation is dropped.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reservation> {
        let used = self.0.used.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if used > self.limit() {
            self.0.used.fetch_sub(bytes, Ordering::SeqCst);
            return Err(Error::Budget { what: "device memory", given: self.limit(), needed: used });
        }
        self.0.peak.fetch_max(used, Ordering::SeqCst);
        Ok(Reservation { budget: self.clone(), bytes })
    }

    /// Bytes that may be allocated at the same time.
    pub fn limit(&self) -> u64 {
        self.0.limit.load(Ordering::SeqCst)
    }

    /// Bytes allocated now.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::SeqCst)
    }

    /// The most bytes that were allocated at the same time since the start or the last [`Budget::reset_peak`].
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::SeqCst)
    }

    /// Starts a new measurement of the peak.
    pub fn reset_peak(&self) {
        self.0.peak.store(self.used(), Ordering::SeqCst);
    }

    pub(crate) fn set_limit(&self, limit: u64) {
        self.0.limit.store(limit, Ordering::SeqCst);
    }
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    bytes: u64,
}

impl Reservation {
    /// How much it holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}
