//! What a profile says must be true of the run: times within it, tracks without overlap, sums that agree with each other and
//! with the trace, and no effect on the result.

mod common;

use common::{Golden, cpu, gpu};
use efface::device::Device;
use efface::device::record::{Clock, Mode, Recording, Track, Work};
use efface::kernels::Accumulate;
use efface::profile::{Profile, Roofs, trace};
use efface::stream::PassOptions;
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::importance::ImportanceSink;
use efface::unlearn::store::{MemoryStore, Store};
use serde_json::Value;

/// A Fisher pass over a golden checkpoint; the sums of squares of all parameters.
fn measure(golden: &Golden, device: &Device) -> Vec<Vec<f32>> {
    let units = Estimator::Sample.units(&golden.samples, Loss::Mean, BatchWeight::Samples);
    let mut store = MemoryStore::new(&golden.model);
    let mut sink = ImportanceSink::new(&golden.model, vec![Accumulate::Square], &mut store);
    golden.pass(device, PassOptions::default()).gradients(&units, &mut sink, &|_, _| {}).unwrap();
    (0..golden.model.parameters.len()).map(|id| store.all(id, Accumulate::Square).unwrap()).collect()
}

fn recorded(golden: &Golden, device: &Device, mode: Mode) -> (Recording, Vec<Vec<f32>>) {
    device.begin_recording(mode).unwrap();
    let sums = measure(golden, device);
    (device.end_recording().unwrap(), sums)
}

/// Launches per kernel and variant, by counting what was recorded.
fn launches(recording: &Recording) -> Vec<(String, u64, u64)> {
    let mut counted: Vec<(String, u64, u64)> = Vec::new();
    for event in &recording.events {
        let Work::Kernels(kernels) = &event.work else { continue };
        for kernel in kernels {
            let name = format!("{} {}", kernel.name, kernel.variant);
            assert!(kernel.shape.contains(": "), "{name} has the shape {:?}", kernel.shape);
            match counted.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, calls, operations)) => {
                    (*calls, *operations) = (*calls + 1, *operations + kernel.cost.operations)
                }
                None => counted.push((name, 1, kernel.cost.operations)),
            }
        }
    }
    counted.sort();
    counted
}

fn check_events(recording: &Recording) {
    assert!(recording.seconds > 0.0);
    for track in Track::ALL {
        let mut open: Vec<f64> = Vec::new();
        let mut until = 0.0;
        let mut events: Vec<_> = recording.events.iter().filter(|event| event.track == track).collect();
        events.sort_by(|a, b| a.begin.total_cmp(&b.begin).then(b.end.total_cmp(&a.end)));
        for event in events {
            assert!(0.0 <= event.begin && event.begin <= event.end && event.end <= recording.seconds, "{event:?}");
            if track == Track::Host {
                // Spans nest: one ends within the one in which it began.
                while open.last().is_some_and(|end| *end <= event.begin) {
                    open.pop();
                }
                assert!(
                    open.last().is_none_or(|end| event.end <= *end),
                    "{event:?} crosses an end at {:?}",
                    open.last()
                );
                open.push(event.end);
            } else {
                assert!(event.begin >= until, "{event:?} begins before {until}");
                until = event.end;
            }
        }
    }
}

/// The trace's events of one phase.
fn of_phase<'a>(trace: &'a Value, phase: &str) -> Vec<&'a Value> {
    trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == phase).collect()
}

fn check_trace(recording: &Recording, profile: &Profile, roofs: Roofs) {
    let text = trace(recording, Some(roofs), "a device").to_string();
    let parsed: Value = serde_json::from_str(&text).unwrap();
    let named = |thread: &Value| {
        let names = of_phase(&parsed, "M");
        let name = names.iter().find(|event| event["name"] == "thread_name" && event["tid"] == *thread);
        name.unwrap_or_else(|| panic!("thread {thread} has no name"))["args"]["name"].as_str().unwrap().to_string()
    };
    let mut seconds = 0.0;
    let mut launched = 0;
    let mut until: Vec<(String, f64)> = Vec::new();
    for event in of_phase(&parsed, "X") {
        let number = |key: &str| event[key].as_f64().unwrap_or_else(|| panic!("{key} of {event}"));
        let (begin, duration) = (number("ts"), number("dur"));
        assert!(event["name"].is_string() && event["pid"].is_u64(), "{event}");
        assert!(begin >= 0.0 && duration >= 0.0 && begin + duration <= recording.seconds * 1e6 + 0.01, "{event}");
        let track = named(&event["tid"]);
        assert_eq!(event["cat"], track.as_str());
        if track != "host" {
            match until.iter_mut().find(|(known, _)| *known == track) {
                Some((_, end)) => {
                    assert!(begin >= *end - 1e-3, "{event} begins before {end}");
                    *end = begin + duration;
                }
                None => until.push((track.clone(), begin + duration)),
            }
        }
        if track == "compute" && event["args"]["shape"].is_string() {
            launched += 1;
            seconds += duration / 1e6;
            for key in ["variant", "bytes", "operations", "gigabytes_per_second", "gigaflops", "time"] {
                assert!(!event["args"][key].is_null(), "no {key} in {event}");
            }
        }
    }
    assert_eq!(launched, profile.kernels.iter().map(|kernel| kernel.calls).sum::<u64>());
    // Each of them is rounded to nanoseconds.
    let rounding = launched as f64 * 2e-9;
    assert!((seconds - profile.kernel_seconds).abs() <= rounding, "{seconds} in the trace, {}", profile.kernel_seconds);
}

#[test]
fn a_profile_agrees_with_the_run_and_with_its_trace() {
    let golden = Golden::open("llama");
    let roofs = Roofs { bytes_per_second: 1e10, operations_per_second: 1e11 };
    for device in [cpu(), gpu()] {
        let unrecorded = measure(&golden, &device);
        let mut all_launches = Vec::new();
        for mode in [Mode::Production, Mode::Attribution] {
            let what = format!("{mode:?} on {}", device.name());
            let (recording, sums) = recorded(&golden, &device, mode);
            assert_eq!(sums, unrecorded, "{what}: recording changed the result");
            match recording.clock {
                Clock::Host => assert!(device.is_cpu()),
                Clock::Timestamps { uncertainty, .. } => assert!(uncertainty < recording.seconds, "{uncertainty}"),
                Clock::Waits => assert!(!device.features().timestamps),
            }
            check_events(&recording);
            let profile = Profile::of(&recording, Some(roofs), 5);
            let counted = launches(&recording);
            let mut listed: Vec<(String, u64, u64)> = profile
                .kernels
                .iter()
                .map(|kernel| (format!("{} {}", kernel.kernel, kernel.variant), kernel.calls, kernel.operations))
                .collect();
            listed.sort();
            assert_eq!(listed, counted, "{what}");
            let share: f64 = profile.kernels.iter().map(|kernel| kernel.share).sum();
            assert!((share - 1.0).abs() < 1e-9, "{what}: shares of {share}");
            let modelled: u64 = profile.kernels.iter().map(|kernel| kernel.modelled).sum();
            let exact = device.is_cpu() || mode == Mode::Attribution && device.features().timestamps;
            assert_eq!(modelled == 0, exact, "{what}");
            assert!((0.0..1.0).contains(&profile.idle_share), "{what}: idle for {}", profile.idle_share);
            let busy: f64 = profile.gaps.iter().map(|gap| gap.seconds).sum();
            assert!(busy <= profile.idle_share * profile.seconds + 1e-9, "{what}");
            assert!(profile.idle_causes.iter().any(|cause| cause.host.contains("model.layers.*")), "{what}");
            check_trace(&recording, &profile, roofs);
            all_launches.push(counted);
        }
        assert_eq!(all_launches[0], all_launches[1], "the modes ran different kernels on {}", device.name());
        // Nothing is noted when nobody asks.
        measure(&golden, &device);
        device.begin_recording(Mode::Production).unwrap();
        let nothing = device.end_recording().unwrap();
        assert!(launches(&nothing).is_empty());
    }
}
