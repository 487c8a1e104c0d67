//! Files written by a thread of its own, in the order in which they were handed over, while computing goes on. A process killed
//! at any moment leaves what a slower one would have left.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::{Error, Result};

/// While more bytes than these wait to be written, nothing is handed over.
const WAITING: u64 = 256 << 20;

/// What is to be written.
type Job = Box<dyn FnOnce() -> Result<()> + Send>;

/// Names something that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// The thread, and what waits for it.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(u64, Job)>,
    /// Bytes of the jobs that are not done.
    waiting: u64,
    handed_over: u64,
    done: u64,
    failure: Option<Error>,
    failed: bool,
    closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("handed_over", &self.handed_over)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl State {
    /// The failure, to whoever asks first.
    fn check(&mut self) -> Result<()> {
        match (self.failure.take(), self.failed) {
            (Some(error), _) => Err(error),
            (None, true) => Err(Error::Failed("nothing more is written: writing failed before".into())),
            (None, false) => Ok(()),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waiting = self.changed.wait_while(self.lock(), |state| condition(state));
        waiting.unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until there is nothing left and nothing more can come. After a failure nothing is written.
    fn work(&self) {
        loop {
            let mut state = self.wait_while(|state| state.jobs.is_empty() && !state.closed);
            let Some((bytes, job)) = state.jobs.pop_front() else { return };
            let failed = state.failed;
            drop(state);
            let result = if failed { Ok(()) } else { job() };
            let mut state = self.lock();
            state.waiting -= bytes;
            state.done += 1;
            if let Err(error) = result {
                (state.failed, state.failure) = (true, Some(error));
            }
            self.changed.notify_all();
        }
    }
}

impl Writer {
    /// A thread with nothing to do.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn new() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || of_thread.work())
            .map_err(|e| Error::Failed(format!("no thread to write files with: {e}")))?;
        Ok(Writer { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Hands over what writes `bytes`; waits while too much is waiting.
    ///
    /// # Errors
    /// Whatever failed before it.
    pub(super) fn hand_over(&self, bytes: u64, job: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Ticket> {
        let full = |state: &State| state.waiting > WAITING && !state.failed;
        let mut state = self.shared.wait_while(full);
        state.check()?;
        state.jobs.push_back((bytes, Box::new(job)));
        state.waiting += bytes;
        state.handed_over += 1;
        self.shared.changed.notify_all();
        Ok(Ticket(state.handed_over))
    }

    /// Waits until that is written.
    ///
    /// # Errors
    /// Whatever failed.
    pub(super) fn wait_for(&self, ticket: Ticket) -> Result<()> {
        self.shared.wait_while(|state| state.done < ticket.0).check()
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// Whatever failed.
    pub(super) fn settle(&self) -> Result<()> {
        self.shared.wait_while(|state| state.done < state.handed_over).check()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It has no reason to panic, and what it could not write is known already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_is_written_in_order_also_when_it_is_dropped() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer::new().unwrap();
        for n in 0..20u64 {
            let written = written.clone();
            // Some are larger than what may wait.
            let job = move || {
                written.lock().unwrap().push(n);
                Ok(())
            };
            let ticket = writer.hand_over(n % 3 * WAITING, job).unwrap();
            assert_eq!(ticket, Ticket(n + 1));
        }
        drop(writer);
        assert_eq!(*written.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn waiting_for_one_waits_for_those_before_it() {
        let written = Arc::new(AtomicU32::new(0));
        let writer = Writer::new().unwrap();
        let hand_over = |milliseconds| {
            let written = written.clone();
            let job = move || {
                std::thread::sleep(Duration::from_millis(milliseconds));
                written.fetch_add(1, Ordering::SeqCst);
                Ok(())
            };
            writer.hand_over(1, job).unwrap()
        };
        let (_, second) = (hand_over(30), hand_over(1));
        writer.wait_for(second).unwrap();
        assert!(written.load(Ordering::SeqCst) >= 2);
        hand_over(20);
        writer.settle().unwrap();
        assert_eq!(written.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn after_a_failure_nothing_is_written() {
        let writer = Writer::new().unwrap();
        let written = Arc::new(AtomicU32::new(0));
        writer.hand_over(1, || Err(Error::Failed("the disk is full".into()))).unwrap();
        let later = written.clone();
        // Refused if the failure is known by then, and skipped if not.
        let refused = writer.hand_over(1, move || {
            later.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let first = refused.err().or_else(|| writer.settle().err()).unwrap();
        assert_eq!(first.to_string(), Error::Failed("the disk is full".into()).to_string());
        assert!(writer.settle().is_err() && writer.hand_over(1, || Ok(())).is_err());
        drop(writer);
        assert_eq!(written.load(Ordering::SeqCst), 0);
    }
}
