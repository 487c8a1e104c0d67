//! When the device was idle, and what the host was doing then.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::device::record::{Recording, Track, Work};

/// A time in which the device neither computed nor copied.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// In seconds since the recording began.
    pub begin: f64,
    /// How long it was.
    pub seconds: f64,
    /// What the host was doing for most of it, from the outside in.
    pub host: String,
}

/// All gaps with one cause.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    /// What the host was doing; numbers in it, such as a layer's, are replaced by `*`.
    pub host: String,
    /// How many gaps.
    pub gaps: u64,
    /// How long they were together.
    pub seconds: f64,
}

/// The gaps of a recording, in order.
#[derive(Debug)]
pub(super) struct Idle(Vec<Gap>);

/// A part of the time in which the host did one thing.
struct Segment<'a> {
    begin: f64,
    end: f64,
    spans: Vec<&'a str>,
}

impl Idle {
    pub(super) fn of(recording: &Recording) -> Self {
        let mut busy: Vec<(f64, f64)> =
            recording.events.iter().filter(|e| e.track.is_device()).map(|e| (e.begin, e.end)).collect();
        busy.sort_by(|a, b| a.0.total_cmp(&b.0));
        let segments = segments(recording);
        let (mut gaps, mut until, mut first) = (Vec::new(), 0.0, 0);
        for (begin, end) in busy.into_iter().chain([(recording.seconds, recording.seconds)]) {
            if begin > until {
                // Gaps ascend, so what lies before this one lies before all that follow.
                first += segments[first..].iter().take_while(|segment| segment.end <= until).count();
                gaps.push(Gap {
                    begin: until,
                    seconds: begin - until,
                    host: longest(&segments[first..], until, begin),
                });
            }
            until = end.max(until);
        }
        Idle(gaps)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.0.iter().map(|gap| gap.seconds).sum()
    }

    /// The `count` longest, the longest first.
    pub(super) fn longest(&self, count: usize) -> Vec<Gap> {
        let mut gaps = self.0.clone();
        gaps.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        gaps.truncate(count);
        gaps
    }

    /// What they come from, the longest together first.
    pub(super) fn causes(&self) -> Vec<Cause> {
        let mut causes: BTreeMap<String, (u64, f64)> = BTreeMap::new();
        for gap in &self.0 {
            let cause = causes.entry(without_numbers(&gap.host)).or_default();
            *cause = (cause.0 + 1, cause.1 + gap.seconds);
        }
        let cause = |(host, (gaps, seconds))| Cause { host, gaps, seconds };
        let mut causes: Vec<Cause> = causes.into_iter().map(cause).collect();
        causes.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        causes
    }
}

/// The host's time cut where what it does changes.
fn segments(recording: &Recording) -> Vec<Segment<'_>> {
    let spans = recording.events.iter().filter(|event| event.track == Track::Host);
    let mut spans: Vec<(f64, f64, &str)> = spans
        .filter_map(|event| match &event.work {
            Work::Span(name) => Some((event.begin, event.end, &**name)),
            _ => None,
        })
        .collect();
    // The outer of two spans that begin together first.
    spans.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut cutter = Cutter::default();
    for (begin, end, name) in spans {
        cutter.advance(begin);
        cutter.open.push((end, name));
    }
    cutter.advance(recording.seconds);
    cutter.segments
}

/// Cuts the host's time.
#[derive(Default)]
struct Cutter<'a> {
    now: f64,
    /// Where the spans that are going on end, from the outside in.
    open: Vec<(f64, &'a str)>,
    segments: Vec<Segment<'a>>,
}

impl Cutter<'_> {
    /// Goes on to a time at which something begins.
    fn advance(&mut self, time: f64) {
        while let Some((ends, _)) = self.open.last().copied().filter(|(ends, _)| *ends <= time) {
            self.cut(ends);
            self.open.pop();
        }
        self.cut(time);
    }

    fn cut(&mut self, end: f64) {
        if end > self.now {
            let spans = self.open.iter().map(|(_, name)| *name).collect();
            self.segments.push(Segment { begin: self.now, end, spans });
            self.now = end;
        }
    }
}

/// What the host did for most of the time from `begin` to `end`.
fn longest(segments: &[Segment<'_>], begin: f64, end: f64) -> String {
    let mut times: Vec<(&[&str], f64)> = Vec::new();
    for segment in segments.iter().take_while(|segment| segment.begin < end) {
        let overlap = segment.end.min(end) - segment.begin.max(begin);
        match times.iter_mut().find(|(spans, _)| *spans == segment.spans) {
            Some((_, time)) => *time += overlap,
            None => times.push((&segment.spans, overlap)),
        }
    }
    match times.iter().max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((spans, _)) if !spans.is_empty() => spans.join(" > "),
        _ => "nothing that has a name".into(),
    }
}

/// A name without the numbers that stand between dots or at an end: `model.layers.*.mlp`.
fn without_numbers(name: &str) -> String {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let word = |word: &str| {
        let parts: Vec<&str> = word.split('.').map(|part| if number(part) { "*" } else { part }).collect();
        parts.join(".")
    };
    name.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::record::{Clock, Event, Mode};

    fn span(begin: f64, end: f64, name: &str) -> Event {
        Event { track: Track::Host, begin, end, work: Work::Span(name.into()) }
    }

    fn kernel(begin: f64, end: f64) -> Event {
        Event { track: Track::Compute, begin, end, work: Work::Kernels(Vec::new()) }
    }

    #[test]
    fn gaps_are_named_after_what_the_host_did_for_most_of_them() {
        let events = vec![
            kernel(1.0, 2.0),
            kernel(1.5, 3.0),
            kernel(6.0, 7.0),
            span(0.0, 9.0, "group 1"),
            span(0.5, 0.75, "planning"),
            span(3.0, 6.0, "backward of model.layers.3.mlp"),
            span(3.25, 5.75, "waiting for a download"),
            span(7.0, 9.0, "backward of model.layers.12.mlp"),
            span(7.25, 8.75, "waiting for a download"),
        ];
        let recording = Recording { mode: Mode::Production, clock: Clock::Host, seconds: 10.0, events };
        let idle = Idle::of(&recording);
        assert_eq!(idle.seconds(), 7.0);
        let gap = |begin, seconds, host: &str| Gap { begin, seconds, host: host.into() };
        let waiting = "group 1 > backward of model.layers.3.mlp > waiting for a download";
        let later = "group 1 > backward of model.layers.12.mlp > waiting for a download";
        let want = [gap(3.0, 3.0, waiting), gap(7.0, 3.0, later), gap(0.0, 1.0, "group 1")];
        assert_eq!(idle.longest(3), want);
        let causes = idle.causes();
        assert_eq!(causes.len(), 2);
        assert_eq!(causes[0].host, "group * > backward of model.layers.*.mlp > waiting for a download");
        assert_eq!((causes[0].gaps, causes[0].seconds), (2, 6.0));
    }

    #[test]
    fn a_recording_without_device_work_is_one_gap() {
        let recording = Recording { mode: Mode::Production, clock: Clock::Host, seconds: 2.0, events: Vec::new() };
        let idle = Idle::of(&recording);
        assert_eq!(idle.longest(9), [Gap { begin: 0.0, seconds: 2.0, host: "nothing that has a name".into() }]);
    }
}
