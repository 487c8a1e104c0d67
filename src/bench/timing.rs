//! How long a launch takes: the median over runs, each of as many launches as make it long enough to be measured.

use std::time::Instant;

use crate::Result;
use crate::device::Device;

/// The shortest run that a clock and a device's queue measure well, in seconds.
const LEAST_RUN: f64 = 2e-3;
/// Runs at least and at most.
const RUNS: (usize, usize) = (5, 101);

/// Seconds of a launch.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Timing {
    /// The median over the runs.
    pub median: f64,
    /// The shortest run's.
    pub least: f64,
    /// The ninth decile: what a busy machine makes of it.
    pub slow: f64,
    /// Runs.
    pub runs: usize,
    /// Launches in a run.
    pub launches: usize,
}

impl Timing {
    /// Of the seconds of several runs with so many launches each.
    fn new(mut seconds: Vec<f64>, launches: usize) -> Self {
        seconds.sort_by(f64::total_cmp);
        let runs = seconds.len();
        let at = |share: f64| seconds[((runs - 1) as f64 * share).round() as usize] / launches as f64;
        Timing { median: at(0.5), least: at(0.0), slow: at(0.9), runs, launches }
    }

    /// How far the ninth decile lies above the median, as a share of it.
    pub fn spread(&self) -> f64 {
        self.slow / self.median - 1.0
    }
}

/// Times `launch` for about `budget` seconds.
///
/// # Errors
/// When a launch fails.
pub fn of(device: &Device, budget: f64, launch: impl Fn() -> Result<()>) -> Result<Timing> {
    let run = |launches: usize| -> Result<f64> {
        let start = Instant::now();
        for _ in 0..launches {
            launch()?;
        }
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first run makes pipelines and touches pages; the second says how many launches a run needs.
    run(1)?;
    let once = run(1)?.max(1e-9);
    let launches = ((LEAST_RUN / once).ceil() as usize).clamp(1, 10_000);
    let start = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < RUNS.0 || (seconds.len() < RUNS.1 && start.elapsed().as_secs_f64() < budget) {
        seconds.push(run(launches)?);
    }
    Ok(Timing::new(seconds, launches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_that_of_a_launch() {
        let timing = Timing::new(vec![4.0, 8.0, 2.0, 6.0, 100.0], 2);
        assert_eq!((timing.median, timing.least, timing.slow, timing.runs), (3.0, 1.0, 50.0, 5));
        assert!((timing.spread() - (50.0 / 3.0 - 1.0)).abs() < 1e-12);
    }

    #[test]
    fn short_launches_are_timed_together() {
        let device = Device::cpu(u64::MAX);
        let timing = of(&device, 0.01, || Ok(())).unwrap();
        assert!(timing.launches > 100 && timing.runs >= 5);
        assert!(timing.median < 1e-4);
    }
}
