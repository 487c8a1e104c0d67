//! Every family against float64 autograd (tests/golden), on the CPU device and on the first adapter.

mod common;

use common::{FAMILIES, GOLDEN, Golden, cpu, gpu, numbers, relative};
use efface::device::Device;
use efface::stream::PassOptions;
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::importance::{ImportanceSink, Kind};
use efface::unlearn::store::MemoryStore;

/// A golden kind and how efface computes it.
const KINDS: [(&str, Kind, Estimator, Loss, BatchWeight); 7] = [
    ("fisher", Kind::Fisher, Estimator::Sample, Loss::Mean, BatchWeight::Samples),
    ("batch3", Kind::Fisher, Estimator::Batch(3), Loss::Mean, BatchWeight::Samples),
    ("batch3_tokens", Kind::Fisher, Estimator::Batch(3), Loss::Mean, BatchWeight::Tokens),
    ("sum", Kind::Fisher, Estimator::Sample, Loss::Sum, BatchWeight::Samples),
    ("abs", Kind::Abs, Estimator::Sample, Loss::Mean, BatchWeight::Samples),
    ("mean", Kind::Mean, Estimator::Sample, Loss::Mean, BatchWeight::Samples),
    ("variance", Kind::Variance, Estimator::Sample, Loss::Mean, BatchWeight::Samples),
];

/// Compares all kinds that the golden file has; returns how many tensors were compared.
fn compare(name: &str, device: &Device, tolerance: f64) -> usize {
    let golden = Golden::open(name);
    let reference = golden.reference();
    let pass = golden.pass(device, PassOptions::default());
    let mut compared = 0;
    for (key, kind, estimator, loss, weight) in KINDS {
        if reference.tensors().all(|t| !t.name.starts_with(&format!("{key}/"))) {
            continue;
        }
        let units = estimator.units(&golden.samples, loss, weight);
        let mut store = MemoryStore::new(&golden.model);
        let mut sink = ImportanceSink::new(&golden.model, kind.sums().to_vec(), &mut store);
        pass.gradients(&units, &mut sink, &|_, _| {}).unwrap();
        for (id, parameter) in golden.model.parameters.iter().enumerate() {
            let got = kind.figure(&store, id, units.len()).unwrap();
            let want = numbers(&reference, &format!("{key}/{}", parameter.name));
            let error = relative(&got, &want);
            assert!(
                error <= tolerance,
                "{name} {key} {} on {}: relative error {error:.2e}",
                parameter.name,
                device.name()
            );
            compared += 1;
        }
    }
    compared
}

fn tolerance(name: &str) -> f64 {
    if name.ends_with("16") { 1e-3 } else { 1e-4 }
}

#[test]
fn every_checkpoint_on_the_cpu() {
    let compared: usize = GOLDEN.iter().map(|name| compare(name, &cpu(), tolerance(name))).sum();
    println!("{compared} tensors compared");
    assert!(compared > 1000);
}

#[test]
fn every_checkpoint_on_the_gpu() {
    let device = gpu();
    let compared: usize = GOLDEN.iter().map(|name| compare(name, &device, tolerance(name))).sum();
    println!("{compared} tensors compared on {}", device.name());
    assert!(compared > 1000);
}

#[test]
fn losses_equal_those_of_autograd() {
    for device in [cpu(), gpu()] {
        for name in FAMILIES {
            let golden = Golden::open(name);
            let text = std::fs::read_to_string(golden.directory.join("expected.json")).unwrap();
            let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
            let losses = golden.pass(&device, PassOptions::default()).losses(&golden.samples, &|_, _| {}).unwrap();
            for (i, loss) in losses.iter().enumerate() {
                let (mean, targets) =
                    (expected["loss_mean"][i].as_f64().unwrap(), expected["targets"][i].as_u64().unwrap());
                assert_eq!(loss.tokens.len() as u64, targets);
                assert!(
                    (loss.mean() - mean).abs() < 2e-5 * mean.abs(),
                    "{name} sample {i}: {} against {mean}",
                    loss.mean()
                );
            }
        }
    }
}
