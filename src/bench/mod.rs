//! Benchmarks: what this machine can do (roofs), and how close every kernel and whole jobs come to it.
//!
//! | file | what it holds |
//! |---|---|
//! | `roofs.rs` | the machine's roofs, measured: copy bandwidth, fused multiply-adds, transfers, dense products |
//! | `shape.rs` | the models whose layers the kernels are given |
//! | `cases/` | for every registered kernel its problems: data, launch, cost, and a check against its float64 reference |
//! | `timing.rs` | median and spread of a launch |
//! | `jobs.rs` | whole passes: Fisher beside the plain backward pass, streamed beside resident, cost against size |
//! | `model.rs` | a checkpoint of random weights for them |
//!
//! A figure is only worth something beside its roof and after its check: a case is checked first, on the data that is then
//! timed, and one whose result is wrong is reported as failed whatever its speed. The roofline is that of Williams, Waterman
//! and Patterson (2009): a kernel that does `o` operations on `b` bytes can at best take the longer of `o / rate` and
//! `b / bandwidth`.

mod case;
pub mod cases;
mod jobs;
mod model;
mod roofs;
mod shape;
mod timing;

pub use case::{Accuracy, Case, Prepared};
pub use jobs::{Bench, Job, Kind as JobKind, Line};
pub use model::write_random;
pub use roofs::Roofs;
pub use shape::{SHAPES, Shape};
pub use timing::Timing;

use crate::device::Device;
use crate::kernels::Cost;
use crate::{Error, Result};

/// What one case came to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measured {
    /// `family/name` of the kernel.
    pub kernel: &'static str,
    /// The model whose layer it was given.
    pub model: &'static str,
    /// What of the model, its shape and element type.
    pub problem: String,
    /// Tokens in the launch.
    pub tokens: usize,
    /// What a launch moves and computes.
    pub cost: Cost,
    /// How long a launch takes.
    pub timing: Timing,
    /// How far its result is from float64.
    pub accuracy: Accuracy,
    /// The share of the roof that binds it, if the roofs are known.
    pub roof: Option<Bound>,
}

/// The roof that binds a kernel, and how near it comes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Bound {
    /// Which one.
    pub by: Roof,
    /// The roof's time divided by the measured one.
    pub share: f64,
}

/// What can bind a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Roof {
    /// Memory bandwidth.
    Bandwidth,
    /// The rate of fused multiply-adds.
    Arithmetic,
}

impl Roof {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Roof::Bandwidth => "bandwidth",
            Roof::Arithmetic => "arithmetic",
        }
    }
}

/// Prepares, checks and times one case.
///
/// # Errors
/// When the device has no room for it or failed. A wrong result is no error: it is in the [`Accuracy`].
pub fn measure(device: &Device, case: &Case, roofs: &Roofs, seconds: f64, seed: u64) -> Result<Measured> {
    let prepared = case.prepare(device, seed)?;
    prepared.launch()?;
    device.synchronize()?;
    let accuracy = prepared.check()?;
    let timing = timing::of(device, seconds, || prepared.launch())?;
    let cost = prepared.cost;
    let roof = roofs.bound(cost, timing.median);
    let (kernel, model, problem, tokens) = (case.kernel, case.model, case.problem.clone(), case.tokens);
    Ok(Measured { kernel, model, problem, tokens, cost, timing, accuracy, roof })
}

impl Measured {
    /// Bytes moved per second.
    pub fn bandwidth(&self) -> f64 {
        self.cost.bytes as f64 / self.timing.median
    }

    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.cost.operations as f64 / self.timing.median
    }
}

/// The shapes of these names.
///
/// # Errors
/// When there is none of a name.
pub fn shapes(names: &[String]) -> Result<Vec<&'static Shape>> {
    let known = || SHAPES.iter().map(|shape| shape.name).collect::<Vec<_>>().join(", ");
    names
        .iter()
        .map(|name| {
            let found = SHAPES.iter().find(|shape| shape.name == *name);
            found.ok_or_else(|| Error::argument(format!("{name:?} is no shape; there are {}", known())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registered_kernel_has_a_case() {
        let cases = cases::all(&[&SHAPES[0]], &[64]);
        for kernel in crate::kernels::registry() {
            assert!(cases.iter().any(|case| case.kernel == kernel.name), "{} has no case", kernel.name);
        }
        assert!(cases.iter().all(|case| crate::kernels::registry().any(|kernel| kernel.name == case.kernel)));
    }

    /// Every case runs and is right, at a size that a debug build can do.
    #[test]
    fn every_case_passes_its_check_on_the_cpu() {
        let device = Device::cpu(u64::MAX);
        let shape: &'static Shape = &Shape {
            name: "tiny",
            hidden: 72,
            heads: 4,
            kv_heads: 2,
            head_dim: 18,
            feed_forward: 150,
            vocabulary: 1100,
            layers: 1,
        };
        for case in cases::all(&[shape], &[37]) {
            let prepared = case.prepare(&device, 5).unwrap();
            prepared.launch().unwrap();
            let accuracy = prepared.check().unwrap();
            assert!(accuracy.passes(), "{} {}: {accuracy:?}", case.kernel, case.problem);
            assert!(prepared.cost.bytes > 0);
        }
    }

    /// A check that cannot fail is none: a result of another launch is found out.
    #[test]
    fn a_wrong_result_fails() {
        let accuracy = Accuracy::of(&[1.0, 2.0, 3.1], &[1.0, 2.0, 3.0], 1e-3);
        assert!(!accuracy.passes());
        assert!(!Accuracy::of(&[1.0, f64::NAN], &[1.0, 2.0], 1e3).passes());
        assert!(!Accuracy::of(&[1.0], &[1.0, 2.0], 1e3).passes());
        assert!(Accuracy::of(&[0.0, 0.0], &[0.0, 0.0], 0.0).passes());
        let device = Device::cpu(u64::MAX);
        let case = cases::all(&[&SHAPES[0]], &[16]).into_iter().find(|case| case.kernel == "elementwise/add").unwrap();
        let prepared = case.prepare(&device, 1).unwrap();
        // Launched twice, the sum is another one than after one launch.
        prepared.launch().unwrap();
        prepared.launch().unwrap();
        assert!(!prepared.check().unwrap().passes());
    }
}
