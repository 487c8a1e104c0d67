//! What must not change a result: the memory budget, the split of samples, the binding limit; and that a budget is kept.

mod common;

use common::{FAMILIES, Golden, cpu, gpu, relative};
use efface::Error;
use efface::device::{Choice, Device, open};
use efface::kernels::Accumulate;
use efface::stream::PassOptions;
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::importance::ImportanceSink;
use efface::unlearn::store::{MemoryStore, Store};

/// All sums of squares and of gradients, parameter by parameter.
fn measure(golden: &Golden, device: &Device, options: PassOptions) -> efface::Result<Vec<Vec<f32>>> {
    let units = Estimator::Sample.units(&golden.samples, Loss::Mean, BatchWeight::Samples);
    let mut store = MemoryStore::new(&golden.model);
    let sums = vec![Accumulate::Square, Accumulate::Sum];
    let mut sink = ImportanceSink::new(&golden.model, sums.clone(), &mut store);
    golden.pass(device, options).gradients(&units, &mut sink, &|_, _| {})?;
    let ids = 0..golden.model.parameters.len();
    ids.flat_map(|id| sums.iter().map(|a| store.all(id, *a)).collect::<Vec<_>>()).collect()
}

/// The smallest budget that the plan names when it refuses one.
fn smallest(golden: &Golden, device: &Device, options: PassOptions) -> u64 {
    device.set_memory(1);
    match measure(golden, device, options) {
        Err(error @ Error::Budget { needed, .. }) => {
            assert!(error.is_input());
            needed
        }
        other => panic!("a budget of one byte was accepted: {:?}", other.map(|f| f.len())),
    }
}

/// The smallest host memory with which the smallest device memory budget works: groups of a single sample.
fn smallest_host(golden: &Golden, device: &Device) -> u64 {
    device.set_memory(smallest(golden, device, PassOptions::default()));
    match measure(golden, device, PassOptions { host_memory: Some(1), ..PassOptions::default() }) {
        Err(Error::Budget { what: "host memory", needed, .. }) => needed,
        other => panic!("a host memory of one byte was accepted: {:?}", other.map(|f| f.len())),
    }
}

fn assert_alike(what: &str, device: &Device, one: &[Vec<f32>], other: &[Vec<f32>]) {
    for (i, (one, other)) in one.iter().zip(other).enumerate() {
        if device.is_cpu() {
            // The matrix library may sum in another order when the shape changes.
            let error = relative(other, one);
            assert!(error <= 1e-5, "{what}: sum {i} is {error:.1e} off");
        } else {
            assert!(one.iter().zip(other).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}: sum {i} has other bytes");
        }
    }
}

#[test]
fn the_smallest_budget_gives_the_same_bytes_and_is_kept() {
    for device in [cpu(), gpu()] {
        for name in FAMILIES {
            let golden = Golden::open(name);
            device.set_memory(u64::MAX);
            let whole = measure(&golden, &device, PassOptions::default()).unwrap();
            for host_memory in [None, Some(smallest_host(&golden, &device))] {
                let options = PassOptions { host_memory, ..PassOptions::default() };
                let budget = smallest(&golden, &device, options);
                device.free_scratch();
                device.set_memory(budget);
                device.budget().reset_peak();
                let small = measure(&golden, &device, options).unwrap();
                let peak = device.budget().peak();
                assert!(peak <= budget, "{name}: {peak} bytes in use under a budget of {budget}");
                assert_alike(&format!("{name} under {budget} bytes on {}", device.name()), &device, &whole, &small);
                device.set_memory(budget - 1);
                assert!(measure(&golden, &device, options).is_err(), "{name}: less than the smallest was accepted");
            }
        }
    }
}

#[test]
fn the_split_of_samples_does_not_matter() {
    for device in [cpu(), gpu()] {
        for name in FAMILIES {
            let golden = Golden::open(name);
            let split = |units_per_launch| PassOptions { units_per_launch, ..PassOptions::default() };
            let all = measure(&golden, &device, split(None)).unwrap();
            for units in [1, 2, 7] {
                let parts = measure(&golden, &device, split(Some(units))).unwrap();
                assert_alike(&format!("{name}, {units} at a time"), &device, &all, &parts);
            }
        }
    }
}

/// Matrices, tables and importances in several bindings each. Slices this small cut the vocabulary within the blocks that
/// its folds are made of, so that the sums agree to rounding and not to the bit.
#[test]
fn a_low_binding_limit_changes_nothing() {
    for name in FAMILIES {
        let mut golden = Golden::open(name);
        golden.samples.retain(|sample| sample.ids.len() < 10);
        assert!(golden.samples.len() > 1);
        let whole = measure(&golden, &gpu(), PassOptions::default()).unwrap();
        let largest = golden.model.parameters.iter().map(efface::model::Parameter::count).max().unwrap();
        let limit = 6_400;
        assert!(largest > 2 * limit / 4, "no matrix of {name} would be split");
        let limited = open(Choice::Gpu, None).unwrap().with_binding_limit(limit as u64);
        let split = measure(&golden, &limited, PassOptions::default()).unwrap();
        for (i, (whole, split)) in whole.iter().zip(&split).enumerate() {
            let error = relative(split, whole);
            assert!(error <= 1e-5, "{name} in pieces: sum {i} is {error:.1e} off");
        }
    }
}
