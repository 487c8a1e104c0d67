//! The phases of a run: a progress bar each, how long they took, and what long ones will take.

use std::cell::Cell;
use std::time::Instant;

use efface::Result;
use efface::report::format;

use super::super::common::Common;
use super::super::progress::Progress;

/// What takes less is not told beforehand, in seconds.
const SHORT: f64 = 5.0;
/// It is told when one in so many parts of it is done.
const PARTS: u64 = 7;

/// How long each phase took, in order.
#[derive(Debug, Default)]
pub struct Phases(pub Vec<(&'static str, f64)>);

impl Phases {
    /// Does a piece of work under a progress bar and notes how long it took.
    pub fn run<T>(
        &mut self,
        common: &Common,
        name: &'static str,
        work: impl FnOnce(&dyn Fn(u64, u64)) -> Result<T>,
    ) -> Result<T> {
        let progress = Progress::new(common, name);
        let done = work(&|done, total| progress.tick(done, total));
        let seconds = progress.seconds();
        drop(progress);
        self.0.push((name, seconds));
        common.detail(&format!("{name}: {}", format::seconds(seconds)));
        done
    }

    /// The same for work whose steps take equally long, and says on stderr what it takes at most, as soon as that can be told: `what` it
    /// is, and the seconds that come on top of those that its progress goes by.
    pub fn foretold<T>(
        &mut self,
        common: &Common,
        name: &'static str,
        (what, beside): (&str, f64),
        work: impl FnOnce(&dyn Fn(u64, u64)) -> Result<T>,
    ) -> Result<T> {
        let (started, told) = (Instant::now(), Cell::new(false));
        self.run(common, name, |tick| {
            work(&|done, of| {
                if !told.get()
                    && let Some(seconds) = expected(started.elapsed().as_secs_f64(), (done, of))
                {
                    told.set(true);
                    if seconds + beside >= SHORT {
                        common.note(&format!("{what} takes at most {}", format::seconds(seconds + beside)));
                    }
                }
                tick(done, of);
            })
        })
    }

    /// How long the last phase of this name took, in seconds; none so far: nothing.
    pub fn seconds(&self, name: &str) -> f64 {
        self.0.iter().rfind(|(phase, _)| *phase == name).map_or(0.0, |(_, seconds)| *seconds)
    }
}

/// What all of the work takes, in seconds, by what `done` of it took; none while that is too little to go by.
fn expected(elapsed: f64, (done, of): (u64, u64)) -> Option<f64> {
    (done > 0 && done * PARTS >= of).then(|| elapsed * of as f64 / done as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_goes_by_what_is_done() {
        assert_eq!(expected(9.0, (0, 0)), None);
        assert_eq!(expected(9.0, (0, 20)), None);
        assert_eq!(expected(9.0, (2, 20)), None);
        assert_eq!(expected(9.0, (3, 20)), Some(60.0));
        assert_eq!(expected(9.0, (1, 5)), Some(45.0));
        assert_eq!(expected(9.0, (20, 20)), Some(9.0));
    }
}
