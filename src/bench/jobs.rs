//! Whole passes: the Fisher diagonal beside the plain backward pass, streamed beside resident, and its cost against the
//! number of samples and of parameters.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::checkpoint::Checkpoint;
use crate::device::Device;
use crate::kernels::Accumulate;
use crate::model::Model;
use crate::model::batch::Tokens;
use crate::random::Random;
use crate::stream::{Pass, PassOptions, Unit};
use crate::unlearn::estimator::{BatchWeight, Estimator, Loss};
use crate::unlearn::importance::ImportanceSink;
use crate::unlearn::store::MemoryStore;
use crate::{Element, Error, Result};

/// Runs of every pass; the median counts.
const RUNS: usize = 3;

/// A pass, timed.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Job {
    /// What was done.
    pub name: String,
    /// Samples.
    pub samples: usize,
    /// Tokens of a sample.
    pub tokens: usize,
    /// Parameters of the model.
    pub parameters: u64,
    /// Seconds of the pass: median, least, most.
    pub seconds: [f64; 3],
    /// Operations per second, counted as 6 (forward only: 2) per parameter and token.
    pub rate: f64,
    /// The most device memory in use, in bytes.
    pub peak_device: u64,
    /// Whether all weights stayed on the device.
    pub resident: bool,
}

/// A straight line through measured costs.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Line {
    /// What was varied.
    pub over: &'static str,
    /// Its values, each with the seconds measured.
    pub points: Vec<(f64, f64)>,
    /// Seconds for each more of it.
    pub slope: f64,
    /// Seconds without any.
    pub start: f64,
    /// The share of the seconds' variance that the line explains.
    pub r_squared: f64,
}

impl Line {
    /// Least squares. At least two points that differ are needed for a slope.
    pub fn through(over: &'static str, points: Vec<(f64, f64)>) -> Self {
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(|p| p.0), mean(|p| p.1));
        let sum = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>();
        let slope = sum(&|p| (p.0 - x) * (p.1 - y)) / sum(&|p| (p.0 - x).powi(2));
        let start = y - slope * x;
        let left = sum(&|p| (p.1 - start - slope * p.0).powi(2));
        let r_squared = 1.0 - left / sum(&|p| (p.1 - y).powi(2));
        Line { over, points, slope, start, r_squared }
    }
}

/// What a pass does with the gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Losses only.
    Forward,
    /// The gradient of the sum of the losses: the plain backward pass.
    Backward,
    /// The Fisher diagonal of samples.
    Fisher,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Forward => "forward",
            Kind::Backward => "summed gradient",
            Kind::Fisher => "Fisher diagonal",
        }
    }
}

/// A model to be timed.
#[derive(Debug)]
pub struct Bench {
    checkpoint: Arc<Checkpoint>,
    model: Arc<Model>,
    seed: u64,
}

impl Bench {
    /// Opens a checkpoint.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(dir: &Path, seed: u64) -> Result<Self> {
        let checkpoint = Arc::new(Checkpoint::open(dir)?);
        let model = Arc::new(Model::of(&checkpoint)?);
        Ok(Bench { checkpoint, model, seed })
    }

    /// Parameters of the model.
    pub fn parameters(&self) -> u64 {
        self.model.parameters.iter().map(|p| p.count() as u64).sum()
    }

    /// Bytes of its weights as stored.
    pub fn bytes(&self) -> u64 {
        self.checkpoint
            .tensors()
            .map(|tensor| (tensor.shape.iter().product::<usize>() * tensor.element.map_or(0, Element::size)) as u64)
            .sum()
    }

    /// The longest sample that the model takes.
    pub fn context(&self) -> usize {
        self.model.config.context
    }

    /// Samples of random tokens, all of them targets.
    fn units(&self, samples: usize, tokens: usize) -> Vec<Unit> {
        let mut random = Random::new(self.seed, "bench tokens");
        let vocabulary = self.model.config.vocabulary;
        let samples: Vec<Arc<Tokens>> = (0..samples)
            .map(|number| {
                let ids: Vec<u32> = (0..tokens).map(|_| random.below(vocabulary) as u32).collect();
                let labels: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
                Arc::new(Tokens::new(&ids, &labels, number as u32))
            })
            .collect();
        Estimator::Sample.units(&samples, Loss::Mean, BatchWeight::Samples)
    }

    /// Times a pass over `samples` samples of `tokens` tokens.
    ///
    /// # Errors
    /// When the budget is too small or the device failed.
    pub fn time(
        &self,
        device: &Device,
        kind: Kind,
        (samples, tokens): (usize, usize),
        options: PassOptions,
    ) -> Result<Job> {
        let units = self.units(samples, tokens);
        let pass = Pass::new(device, self.model.clone(), self.checkpoint.clone(), options)?;
        let mut seconds = Vec::new();
        let mut resident = false;
        device.budget().reset_peak();
        // The first run makes pipelines and reads the file; it does not count.
        for run in 0..=RUNS {
            let start = Instant::now();
            resident = self.once(&pass, kind, &units)?;
            device.synchronize()?;
            if run > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        seconds.sort_by(f64::total_cmp);
        let operations = if kind == Kind::Forward { 2.0 } else { 6.0 };
        let work = operations * self.parameters() as f64 * (samples * tokens) as f64;
        Ok(Job {
            name: kind.name().to_string(),
            samples,
            tokens,
            parameters: self.parameters(),
            rate: work / seconds[RUNS / 2],
            seconds: [seconds[RUNS / 2], seconds[0], seconds[RUNS - 1]],
            peak_device: device.budget().peak(),
            resident,
        })
    }

    /// One pass; whether all weights stayed on the device.
    fn once(&self, pass: &Pass, kind: Kind, units: &[Unit]) -> Result<bool> {
        let accumulate = match kind {
            Kind::Forward => {
                let samples: Vec<Arc<Tokens>> = units.iter().flatten().map(|s| s.tokens.clone()).collect();
                pass.losses(&samples, &|_, _| {})?;
                return Ok(pass.plan(&pass.demand(units, None))?.weights_resident);
            }
            Kind::Backward => Accumulate::Sum,
            Kind::Fisher => Accumulate::Square,
        };
        let mut store = MemoryStore::new(&self.model);
        let mut sink = ImportanceSink::new(&self.model, vec![accumulate], &mut store);
        Ok(pass.gradients(units, &mut sink, &|_, _| {})?.plan.weights_resident)
    }

    /// A budget of a tenth of the model for a pass, or the smallest that will do where that is more.
    ///
    /// # Errors
    /// When the device failed.
    pub fn tenth(&self, device: &Device, (samples, tokens): (usize, usize), options: PassOptions) -> Result<u64> {
        let tenth = self.bytes() / 10;
        let pass = Pass::new(device, self.model.clone(), self.checkpoint.clone(), options)?;
        let mut store = MemoryStore::new(&self.model);
        let sink = ImportanceSink::new(&self.model, vec![Accumulate::Square], &mut store);
        let demand = pass.demand(&self.units(samples, tokens), Some(&sink));
        let before = device.budget().limit();
        device.set_memory(tenth);
        let plan = pass.plan(&demand);
        device.set_memory(before);
        match plan {
            Ok(_) => Ok(tenth),
            Err(Error::Budget { needed, .. }) => Ok(needed.max(tenth)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Shape, model::write_random};

    #[test]
    fn a_line_is_found_again() {
        let line = Line::through("samples", vec![(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]);
        assert!((line.slope - 2.0).abs() < 1e-12 && (line.start - 3.0).abs() < 1e-12 && line.r_squared > 0.999_999);
        let bent = Line::through("samples", vec![(1.0, 1.0), (2.0, 4.0), (3.0, 1.0)]);
        assert!(bent.r_squared < 0.1);
    }

    #[test]
    fn a_random_checkpoint_is_one_and_its_passes_are_timed() {
        let shape = Shape {
            name: "tiny",
            hidden: 24,
            heads: 3,
            kv_heads: 1,
            head_dim: 8,
            feed_forward: 40,
            vocabulary: 600,
            layers: 2,
        };
        let folder = tempfile::tempdir().unwrap();
        write_random(&shape, 2, 3, folder.path()).unwrap();
        let bench = Bench::open(folder.path(), 1).unwrap();
        // Embedding, two layers of two norms, four projections and three matrices, and the last norm.
        let layer = 2 * 24 + 24 * 24 + 2 * 8 * 24 + 24 * 24 + 3 * 40 * 24;
        assert_eq!(bench.parameters(), 600 * 24 + 2 * layer + 24);
        assert_eq!(bench.bytes(), 4 * bench.parameters());
        let device = Device::cpu(u64::MAX);
        for kind in [Kind::Forward, Kind::Backward, Kind::Fisher] {
            let job = bench.time(&device, kind, (3, 9), PassOptions::default()).unwrap();
            assert!(job.seconds[1] > 0.0 && job.seconds[1] <= job.seconds[0] && job.rate > 0.0, "{job:?}");
        }
        assert!(bench.tenth(&device, (3, 9), PassOptions::default()).unwrap() >= bench.bytes() / 10);
    }
}
