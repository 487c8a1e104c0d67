//! What must not change a result: the memory budget, the split of samples, the binding limit; and that a budget is kept.

mod common;

use common::{FAMILIES, Golden, cpu, gpu, random_llama, relative};
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

/// A model of which no more than an eighth fits: its weights and their importances pass through, layer by layer.
#[test]
fn a_model_of_many_times_the_budget_passes_through_it() {
    let root = tempfile::TempDir::new().unwrap();
    let checkpoint = root.path().join("checkpoint");
    std::fs::create_dir(&checkpoint).unwrap();
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    random_llama(&checkpoint, [96, 260, 28, 1501], u64::from(seed));
    let line = |length: usize| {
        let ids: Vec<usize> = (0..length).map(|i| (i * 389 + length) % 1501).collect();
        serde_json::json!({ "input_ids": ids, "labels": ids }).to_string()
    };
    std::fs::write(root.path().join("data.jsonl"), [5, 9, 3, 7].map(line).join("\n")).unwrap();
    let golden = Golden::at(root.path().to_path_buf());
    let weights = 4 * golden.model.parameter_count() as u64;
    let device = gpu();
    let whole = measure(&golden, &device, PassOptions::default()).unwrap();
    let options = PassOptions { host_memory: Some(smallest_host(&golden, &device)), ..PassOptions::default() };
    let budget = smallest(&golden, &device, options);
    assert!(weights >= 8 * budget, "the model of {weights} bytes is not eight times the budget of {budget}");
    for budget in [budget, weights / 8] {
        device.free_scratch();
        device.set_memory(budget);
        device.budget().reset_peak();
        let small = measure(&golden, &device, options).unwrap();
        let peak = device.budget().peak();
        assert!(peak <= budget, "{peak} bytes in use under a budget of {budget}");
        assert_alike(&format!("under {budget} bytes"), &device, &whole, &small);
    }
}

/// The highest resident memory of `efface fisher` on the CPU over `times` the golden samples. (Linux alone tells it.)
#[cfg(target_os = "linux")]
fn highest_resident(golden: &Golden, times: usize, args: &[&str]) -> u64 {
    use std::process::{Command, Stdio};
    let root = tempfile::TempDir::new().unwrap();
    let lines = std::fs::read_to_string(golden.directory.join("data.jsonl")).unwrap();
    let data = root.path().join("data.jsonl");
    std::fs::write(&data, lines.repeat(times)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_efface"))
        .args(["fisher", "--device", "cpu", "--model"])
        .arg(golden.directory.join("checkpoint"))
        .arg("--data")
        .arg(&data)
        .arg("--out")
        .arg(root.path().join("F.safetensors"))
        .args(args)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut highest = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        highest = line.trim().split(' ').next().and_then(|kb| kb.parse().ok()).unwrap_or(highest);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return highest * 1024;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Bytes of the stages' inputs for `tokens` tokens: the least that grows if a group grows.
#[cfg(target_os = "linux")]
fn waiting(golden: &Golden, tokens: usize) -> u64 {
    (tokens * golden.model.config.hidden * 4 * golden.model.stages.len()) as u64
}

#[cfg(target_os = "linux")]
fn assert_no_growth(golden: &Golden, [few, many]: [usize; 2], args: &[&str]) {
    let tokens: usize = golden.samples.iter().map(|sample| sample.ids.len()).sum();
    let more = (many - few) * tokens;
    let would_wait = waiting(golden, more);
    assert!(would_wait > 12 << 20, "{would_wait} bytes would not be seen");
    let [few, many] = [few, many].map(|times| highest_resident(golden, times, args));
    let grown = many.saturating_sub(few);
    assert!(grown < would_wait / 4, "{grown} bytes more for {more} tokens more, of which {would_wait} would wait");
}

/// Activations wait in host memory within its budget, however many samples there are.
#[test]
#[cfg(target_os = "linux")]
fn host_memory_does_not_grow_with_the_samples() {
    let golden = Golden::open("llama");
    let device = cpu();
    // Room for some samples: a group of each alone would take long.
    let host = (8 * smallest_host(&golden, &device)).to_string();
    // Under the smallest device memory nothing waits there.
    let memory = smallest(&golden, &device, PassOptions::default()).to_string();
    assert_no_growth(&golden, [1, 60], &["--memory", &memory, "--host-memory", &host]);
}

/// Without any budget the CPU keeps no more than a group's activations either.
#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_samples_by_default() {
    let golden = Golden::open("llama");
    let tokens: usize = golden.samples.iter().map(|sample| sample.ids.len()).sum();
    // The largest group is full with a thousand tokens.
    let full = 1500usize.div_ceil(tokens);
    assert_no_growth(&golden, [full, full + 59], &[]);
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
