//! A recording in the Trace Event format (Google, "Trace Event Format", JSON object form), which Perfetto and chrome://tracing
//! open: complete events (`X`) with times in microseconds, a thread for each track.

use serde_json::{Map, Value, json};

use super::runs::runs_of;
use super::{Roofs, clock_in_words, mode_name, rate};
use crate::device::record::{Event, Recording, Track, Work};

/// The process that all tracks belong to.
const PROCESS: u32 = 1;

/// The trace of a recording. `device` names what computed.
pub fn trace(recording: &Recording, roofs: Option<Roofs>, device: &str) -> Value {
    let mut events = vec![metadata("process_name", 0, json!({ "name": format!("efface on {device}") }))];
    for track in Track::ALL {
        events.push(metadata("thread_name", thread(track), json!({ "name": track.name() })));
        events.push(metadata("thread_sort_index", thread(track), json!({ "sort_index": thread(track) })));
    }
    for event in &recording.events {
        match &event.work {
            Work::Kernels(_) => events.extend(kernels(event, roofs)),
            Work::Copies { bytes, count } => {
                let gigabytes = rate(*bytes, event.end - event.begin);
                let args = json!({ "bytes": bytes, "copies": count, "gigabytes_per_second": gigabytes });
                let name = match event.track {
                    Track::Compute => "clear",
                    _ => "copy",
                };
                events.push(complete(name, event.track, [event.begin, event.end], args));
            }
            Work::Span(name) => events.push(complete(name, event.track, [event.begin, event.end], json!({}))),
        }
    }
    json!({
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "program": concat!("efface ", env!("CARGO_PKG_VERSION")),
            "device": device,
            "mode": mode_name(recording.mode),
            "clock": clock_in_words(recording.clock),
            "seconds": recording.seconds,
        },
    })
}

fn kernels(event: &Event, roofs: Option<Roofs>) -> Vec<Value> {
    let one = |run: &super::Run<'_>| {
        let (kernel, seconds) = (run.kernel, run.end - run.begin);
        let mut args = Map::new();
        args.insert("shape".into(), kernel.shape.clone().into());
        args.insert("variant".into(), kernel.variant.into());
        args.insert("bytes".into(), kernel.cost.bytes.into());
        args.insert("operations".into(), kernel.cost.operations.into());
        args.insert("gigabytes_per_second".into(), rate(kernel.cost.bytes, seconds).into());
        args.insert("gigaflops".into(), rate(kernel.cost.operations, seconds).into());
        if let Some(roofs) = roofs.filter(|_| seconds > 0.0) {
            args.insert("roof_share".into(), (roofs.seconds(kernel.cost) / seconds).into());
        }
        let time = if run.modelled { "shared out of the pass's by cost" } else { "measured" };
        args.insert("time".into(), time.into());
        complete(kernel.name, event.track, [run.begin, run.end], Value::Object(args))
    };
    runs_of(event, roofs).iter().map(one).collect()
}

fn thread(track: Track) -> u32 {
    1 + Track::ALL.iter().position(|other| *other == track).unwrap_or(0) as u32
}

fn metadata(name: &str, thread: u32, args: Value) -> Value {
    json!({ "name": name, "ph": "M", "pid": PROCESS, "tid": thread, "args": args })
}

/// An event from `begin` to `end`, in seconds. Both ends are rounded to nanoseconds, so that neighbours stay neighbours.
fn complete(name: &str, track: Track, [begin, end]: [f64; 2], args: Value) -> Value {
    let [begin, end] = [begin, end].map(|seconds| (seconds.max(0.0) * 1e9).round());
    json!({
        "name": name, "cat": track.name(), "ph": "X", "ts": begin / 1e3, "dur": (end - begin).max(0.0) / 1e3,
        "pid": PROCESS, "tid": thread(track), "args": args,
    })
}
