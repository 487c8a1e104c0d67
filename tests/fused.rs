//! The fused visit against measuring first and dampening afterwards: the same bytes, the same counts, on every golden
//! checkpoint and both devices.

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::{GOLDEN, Golden, cpu, gpu};
use efface::bench::{Shape, write_random};
use efface::device::Device;
use efface::kernels::Accumulate;
use efface::model::weights::WeightSource;
use efface::stream::{CheckpointWeights, Pass, PassOptions, Unit};
use efface::unlearn::edit::{Comparison, DampenedWeights, Dampening, Edit};
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::forget::measure;
use efface::unlearn::fused::{Known, SparseWeights, dampen, obstacle};
use efface::unlearn::measured::Measured;
use efface::unlearn::selection::{Against, Granularity, LogRatioHistogram};
use efface::unlearn::store::MemoryStore;

/// For each parameter that may change its bytes, how many elements were selected and how many differ.
type Edits = HashMap<usize, (Vec<u8>, u64, u64)>;

struct Case {
    golden: Golden,
    base: Arc<dyn WeightSource>,
    forget: Vec<Unit>,
    retain: Vec<Unit>,
    wanted: Vec<bool>,
}

impl Case {
    fn new(name: &str) -> Self {
        Case::of(Golden::open(name), 2)
    }

    /// The first `forget` samples are to be forgotten.
    fn of(golden: Golden, forget: usize) -> Self {
        let units = |samples: &[_]| Estimator::Sample.units(samples, Loss::Mean, BatchWeight::Samples);
        let (forget, retain) = (units(&golden.samples[..forget]), units(&golden.samples[forget..]));
        let base = Arc::new(CheckpointWeights::new(golden.checkpoint.clone()));
        // One tensor must be left alone.
        let wanted = (0..golden.model.parameters.len()).map(|id| id != 3).collect();
        Case { golden, base, forget, retain, wanted }
    }

    fn pass(&self, device: &Device) -> Pass {
        self.golden.pass(device, PassOptions::default())
    }

    fn measured(&self, device: &Device, units: &[Unit]) -> Measured {
        let store = Box::new(MemoryStore::new(&self.golden.model));
        measure(&self.pass(device), units, Accumulate::Square, &self.wanted, store, &|_, _| {}).unwrap()
    }

    fn edits(&self, device: &Device, edit: &dyn Edit) -> Edits {
        let one = |(id, parameter): (usize, &efface::model::Parameter)| {
            let (element, bytes) = self.base.tensor(parameter).unwrap();
            let edited = edit.edit(device, id, (element, &bytes)).unwrap();
            edited.map(|edited| (id, (edited.bytes, edited.selected, edited.changed)))
        };
        self.golden.model.parameters.iter().enumerate().filter_map(one).collect()
    }

    /// First measured, then dampened; also the retain importance for the other way, and the held-out losses.
    fn steps(&self, device: &Device, against: Against, dampening: Dampening) -> (Edits, LogRatioHistogram, Vec<f64>) {
        let sums = (self.measured(device, &self.forget), self.measured(device, &self.retain));
        let model = self.golden.model.clone();
        let comparison = Comparison::new(model, sums, against, &self.wanted, Granularity::Element).unwrap();
        let comparison = Arc::new(comparison);
        let histogram = comparison.ratios(device, &|_, _| {}).unwrap();
        let weights = DampenedWeights::new(self.base.clone(), comparison.clone(), dampening, device);
        let losses = self.losses(device, Arc::new(weights));
        (self.edits(device, &(comparison, dampening)), histogram, losses)
    }

    fn fused(&self, device: &Device, against: Against, dampening: Dampening) -> (Edits, LogRatioHistogram, Vec<f64>) {
        let known = Known { retain: self.measured(device, &self.retain), against, dampening };
        let pass = self.pass(device);
        assert_eq!(obstacle(&pass, &self.forget).unwrap(), None);
        let fused = dampen(&pass, &self.base, &self.forget, &self.wanted, &known, &|_, _| {}).unwrap();
        let losses = self.losses(device, Arc::new(SparseWeights::new(self.base.clone(), fused.edit.clone())));
        (self.edits(device, &fused.edit), fused.histogram, losses)
    }

    fn losses(&self, device: &Device, weights: Arc<dyn WeightSource>) -> Vec<f64> {
        let pass = Pass::over(device, self.golden.model.clone(), weights, PassOptions::default()).unwrap();
        let losses = pass.losses(&self.golden.samples, &|_, _| {}).unwrap();
        losses.iter().map(|loss| loss.mean()).collect()
    }
}

fn compare(name: &str, case: &Case, device: &Device, against: Against, (threshold, lambda): (f32, f32)) -> u64 {
    let dampening = Dampening { threshold, lambda };
    let (want, counted, losses) = case.steps(device, against, dampening);
    let (got, histogram, fused) = case.fused(device, against, dampening);
    assert_eq!(want.len(), case.golden.model.parameters.len() - 1);
    assert_eq!(got.len(), want.len());
    for (id, want) in &want {
        let (tensor, on) = (&case.golden.model.parameters[*id].name, device.name());
        assert!(got[id].0 == want.0, "{name} {tensor} on {on}: other bytes");
        assert_eq!((got[id].1, got[id].2), (want.1, want.2), "{name} {tensor} on {on}: selected and changed");
    }
    assert_eq!(histogram, counted, "{name}");
    assert_eq!(fused, losses, "{name}: losses of the edited model");
    want.values().map(|(.., changed)| changed).sum()
}

#[test]
fn every_checkpoint_on_the_cpu() {
    for name in GOLDEN {
        let changed = compare(name, &Case::new(name), &cpu(), Against::Retain, (1.1, 0.5));
        assert!(changed > 100, "{name}: {changed} changed elements are no test");
    }
}

#[test]
fn every_checkpoint_on_the_gpu() {
    let device = gpu();
    for name in GOLDEN {
        let changed = compare(name, &Case::new(name), &device, Against::Full { forget: 2, retain: 5 }, (0.9, 1.0));
        assert!(changed > 100, "{name}: {changed} changed elements are no test");
    }
}

/// Holds the histogram and the activations of short samples, but not all of a larger table.
const LIMIT: u64 = 40 << 10;

/// Tables in many parts, matrices in slices, a budget that is kept.
#[test]
fn under_small_budgets_and_bindings() {
    for name in ["llama-tied-twice", "mistral", "gpt2-bf16"] {
        for device in [cpu(), gpu()] {
            let case = Case::new(name);
            let dampening = Dampening { threshold: 1.0, lambda: 0.7 };
            let (want, counted, _) = case.steps(&device, Against::Retain, dampening);
            let retain = case.measured(&device, &case.retain);
            let known = Known { retain, against: Against::Retain, dampening };
            // Whatever budget has no obstacle must suffice.
            let pass = case.pass(&device);
            let fits = |budget: u64| {
                device.set_memory(budget);
                obstacle(&pass, &case.forget).unwrap().is_none()
            };
            let (mut low, mut high) = (1u64, 1 << 30);
            assert!(fits(high) && !fits(low));
            while high - low > 64 {
                let middle = (low + high) / 2;
                match fits(middle) {
                    true => high = middle,
                    false => low = middle,
                }
            }
            device.free_scratch();
            device.set_memory(high);
            device.budget().reset_peak();
            let fused = dampen(&pass, &case.base, &case.forget, &case.wanted, &known, &|_, _| {}).unwrap();
            assert!(device.budget().peak() <= high, "{name}: {} over {high}", device.budget().peak());
            device.set_memory(u64::MAX);
            if !device.is_cpu() {
                assert_eq!(fused.histogram, counted, "{name} under {high} bytes");
                let got = case.edits(&device, &fused.edit);
                assert!(want.iter().all(|(id, want)| got[id] == *want), "{name} under {high} bytes");
            }
        }
    }
    // Slices: a binding that holds the histogram, and a part of the largest table only.
    let small = gpu().with_binding_limit(LIMIT);
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape {
        name: "sliced",
        hidden: 24,
        heads: 3,
        kv_heads: 1,
        head_dim: 8,
        feed_forward: 40,
        vocabulary: 700,
        layers: 1,
    };
    write_random(&shape, shape.layers, 5, &folder.path().join("checkpoint")).unwrap();
    let lines = [[3, 699, 41, 7, 3], [5, 6, 41, 698, 2], [9, 350, 351, 3, 699]]
        .map(|ids| format!("{{\"input_ids\": {ids:?}, \"labels\": {ids:?}}}\n"));
    std::fs::write(folder.path().join("data.jsonl"), lines.concat()).unwrap();
    let golden = Golden::at(folder.path().to_path_buf());
    assert!(golden.model.parameters.iter().any(|parameter| parameter.count() as u64 * 4 > LIMIT));
    compare("sliced", &Case::of(golden, 1), &small, Against::Retain, (1.3, 0.25));
}
