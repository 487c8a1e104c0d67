//! Every launch with its own time. Where only a pass's time is known, its launches share it by what they cost.

use super::Roofs;
use crate::device::record::{Event, KernelRun, Recording, Work};

/// What launches are weighed by where no roofs are known: proportions of common GPUs.
const NOMINAL: Roofs = Roofs { bytes_per_second: 1e12, operations_per_second: 2e13 };
/// What the smallest launch takes, in seconds, where shares are modelled.
const LAUNCH: f64 = 2e-6;

/// One launch and when it ran.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) kernel: &'a KernelRun,
    /// In seconds since the recording began.
    pub(super) begin: f64,
    pub(super) end: f64,
    /// Whether the time was shared out of a pass's.
    pub(super) modelled: bool,
}

/// The launches of a recording, in order.
pub(super) fn runs(recording: &Recording, roofs: Option<Roofs>) -> Vec<Run<'_>> {
    recording.events.iter().flat_map(|event| runs_of(event, roofs)).collect()
}

/// The launches of one event.
pub(super) fn runs_of(event: &Event, roofs: Option<Roofs>) -> Vec<Run<'_>> {
    let Work::Kernels(kernels) = &event.work else { return Vec::new() };
    let weigh = |kernel: &KernelRun| roofs.unwrap_or(NOMINAL).seconds(kernel.cost) + LAUNCH;
    let all: f64 = kernels.iter().map(weigh).sum();
    let mut passed = 0.0;
    let mut place = |weight: f64| {
        passed += weight;
        event.begin + (event.end - event.begin) * (passed / all).min(1.0)
    };
    let mut begin = event.begin;
    let one = |kernel| {
        let end = place(weigh(kernel));
        let run = Run { kernel, begin, end, modelled: kernels.len() > 1 };
        begin = end;
        run
    };
    kernels.iter().map(one).collect()
}
