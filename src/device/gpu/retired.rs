//! Memory that the program let go of while the device may still use it. It counts against the budget until the last
//! submission that could use it is complete, so that a budget holds although nobody waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::budget::Reservation;

/// The waiting reservations of a GPU. Clones share them.
#[derive(Clone, Debug, Default)]
pub(in crate::device) struct Retired(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The submission that holds, or will hold, the last of what was recorded so far; they are counted from 1.
    last_use: AtomicU64,
    /// The last submission that is known to be complete.
    completed: AtomicU64,
    waiting: Mutex<VecDeque<(u64, Reservation)>>,
}

impl Retired {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<(u64, Reservation)>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was recorded that submission `number` will hold.
    pub(super) fn used_in(&self, number: u64) {
        self.0.last_use.store(number, Ordering::SeqCst);
    }

    /// Submission `number` is complete, and so are those before it.
    pub(super) fn complete(&self, number: u64) {
        self.0.completed.fetch_max(number, Ordering::SeqCst);
    }

    /// The last submission that is known to be complete.
    pub(super) fn completed(&self) -> u64 {
        self.0.completed.load(Ordering::SeqCst)
    }

    /// Takes a reservation whose memory nobody will use any more in what is yet to be recorded.
    pub(in crate::device) fn retire(&self, reservation: Reservation) {
        let last_use = self.0.last_use.load(Ordering::SeqCst);
        if last_use > self.completed() {
            self.waiting().push_back((last_use, reservation));
        }
    }

    /// Frees what complete submissions used.
    pub(super) fn release(&self) {
        let completed = self.completed();
        let mut waiting = self.waiting();
        while waiting.front().is_some_and(|(last_use, _)| *last_use <= completed) {
            waiting.pop_front();
        }
    }

    /// The submission to wait for before anything more can be freed.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.waiting().front().map(|(last_use, _)| *last_use)
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.waiting().iter().map(|(_, reservation)| reservation.bytes()).sum()
    }
}
