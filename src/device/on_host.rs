//! Buffers of the CPU device that another thread reads while computing goes on, such as one that writes files: no copy of them is
//! needed, and whoever runs out of memory meanwhile waits until they come back.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::buffer::Storage;
use super::{Backend, Device, Lease, check_range, foreign};
use crate::Result;

/// How many buffers other threads are reading.
#[derive(Debug, Default)]
pub(super) struct Reading {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Reading {
    /// Waits until one of them comes back; false if there is none.
    pub(super) fn wait_for_one(&self) -> bool {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *count;
        if before == 0 {
            return false;
        }
        drop(self.changed.wait_while(count, |count| *count >= before).unwrap_or_else(PoisonError::into_inner));
        true
    }

    fn change(&self, by: impl FnOnce(usize) -> usize) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = by(*count);
        self.changed.notify_all();
    }
}

/// The numbers of a buffer that nobody will change any more. The buffer goes back to the device's unused ones when this is
/// dropped.
#[derive(Debug)]
pub struct OnHost {
    lease: Option<Lease>,
    count: usize,
    reading: Arc<Reading>,
}

impl OnHost {
    /// Shows the numbers.
    pub fn with<T>(&self, look: impl FnOnce(&[f32]) -> T) -> T {
        match self.lease.as_ref().map(|lease| &*lease.storage) {
            Some(Storage::Host { words, .. }) => {
                let words = words.read().unwrap_or_else(PoisonError::into_inner);
                look(&bytemuck::cast_slice::<u32, f32>(&words)[..self.count])
            }
            _ => unreachable!("made of host memory only, which is taken away only when this is dropped"),
        }
    }
}

impl Drop for OnHost {
    fn drop(&mut self) {
        drop(self.lease.take());
        self.reading.change(|count| count - 1);
    }
}

impl Device {
    /// The buffer's first `count` numbers where they lie, for another thread to read. Only on the CPU.
    ///
    /// # Errors
    /// When they do not fit, or the buffer is no memory of the CPU.
    pub fn on_host(&self, lease: Lease, count: usize) -> Result<OnHost> {
        check_range(&lease, 0, count as u64 * 4)?;
        if !matches!((&self.0.backend, &*lease.storage), (Backend::Cpu, Storage::Host { .. })) {
            return Err(foreign());
        }
        self.0.reading.change(|count| count + 1);
        Ok(OnHost { lease: Some(lease), count, reading: self.0.reading.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_the_memory_waits_for_it() {
        let device = Device::cpu(1000);
        let lease = device.scratch(800).unwrap();
        device.upload(&lease, 0, bytemuck::cast_slice(&[1.0f32, 2.0, 3.0])).unwrap();
        let on_host = device.on_host(lease, 3).unwrap();
        let reader = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            on_host.with(<[f32]>::to_vec)
        });
        assert!(device.allocate(900).is_ok());
        assert_eq!(reader.join().unwrap(), [1.0, 2.0, 3.0]);
        let lease = device.scratch(800).unwrap();
        assert!(device.on_host(lease, 201).is_err());
    }

    #[test]
    fn without_readers_nobody_waits() {
        let device = Device::cpu(1000);
        let _kept = device.allocate(800).unwrap();
        assert!(matches!(device.allocate(900), Err(crate::Error::Budget { .. })));
    }
}
