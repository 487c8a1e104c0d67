//! The pictures of a `forget` report. Each is drawn only if there is something in it.

use super::{Change, ForgetReport, ProbeResult, Role};
use crate::report::format::{self, percent, signed_percent, signed_tick_percent, tick_percent};
use crate::report::svg::{
    Axis, Bar, BarGroup, GroupedBars, HeatMap, HeatRow, Histogram, HistogramSeries, LineChart, LineSeries,
};

/// What a role is called.
pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Forget => "To be forgotten",
        Role::Retain => "To be kept",
        Role::Other => "Everything else",
    }
}

/// The probes, those to be forgotten first, then by file; otherwise in the order given.
pub(super) fn in_order(report: &ForgetReport) -> Vec<&ProbeResult> {
    let mut files: Vec<&str> = Vec::new();
    for probe in &report.probes {
        if !files.contains(&probe.file.as_str()) {
            files.push(&probe.file);
        }
    }
    let mut ordered: Vec<&ProbeResult> = report.probes.iter().collect();
    ordered.sort_by_key(|p| (p.role, files.iter().position(|f| *f == p.file)));
    ordered
}

/// The heading over a probe if it is the first of its role and file.
pub(super) fn heading(previous: Option<&ProbeResult>, probe: &ProbeResult) -> Option<String> {
    let same = previous.is_some_and(|p| p.role == probe.role && p.file == probe.file);
    (!same).then(|| format!("{}: {}", role_name(probe.role), probe.file))
}

/// Probability of the right answer before and after, for each form.
pub(super) fn before_after(report: &ForgetReport) -> Option<GroupedBars> {
    let bar = |value: f64, interval: Option<[f64; 2]>| Bar { value, interval };
    let bars = |c: &Change| vec![bar(c.before, c.before_interval), bar(c.after, c.after_interval)];
    let mut groups = Vec::new();
    let mut previous = None;
    for probe in in_order(report) {
        let held_out = if probe.held_out { ", held out" } else { "" };
        groups.push(BarGroup {
            heading: heading(previous, probe),
            label: probe.form.clone(),
            note: format!("{}{held_out}", format::counted(probe.probes, "probe")),
            bars: bars(&probe.probability),
        });
        previous = Some(probe);
    }
    (!groups.is_empty()).then(|| GroupedBars {
        title: "Probability of the right answer before and after".into(),
        description: "For each form of question a bar for the old model and one for the edited model.".into(),
        series: vec!["before".into(), "after".into()],
        axis: Axis::linear("mean probability of the right answer", percent).with_ticks(tick_percent),
        limit: Some(1.0),
        groups,
    })
}

/// Share of changed weights, layers down, kinds of tensor across.
pub(super) fn changed_weights(report: &ForgetReport) -> Option<HeatMap> {
    let mut columns: Vec<String> = Vec::new();
    let mut layers: Vec<u32> = Vec::new();
    for entry in &report.changed {
        if let Some(layer) = entry.layer {
            if !columns.contains(&entry.kind) {
                columns.push(entry.kind.clone());
            }
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
    }
    layers.sort_unstable();
    let mut sums = vec![vec![(0u64, 0u64); columns.len()]; layers.len()];
    let mut singles = Vec::new();
    for entry in &report.changed {
        match entry.layer {
            Some(layer) => {
                let row = layers.binary_search(&layer).ok();
                let column = columns.iter().position(|c| *c == entry.kind);
                if let (Some(row), Some(column)) = (row, column) {
                    let sum = &mut sums[row][column];
                    *sum = (sum.0.saturating_add(entry.changed), sum.1.saturating_add(entry.total));
                }
            }
            None if entry.total > 0 => singles.push((entry.kind.clone(), entry.changed as f64 / entry.total as f64)),
            None => {}
        }
    }
    let cell = |&(changed, total): &(u64, u64)| (total > 0).then(|| changed as f64 / total as f64);
    let rows = layers.iter().zip(&sums);
    let rows = rows.map(|(l, sums)| HeatRow { label: format!("layer {l}"), cells: sums.iter().map(cell).collect() });
    (!report.changed.is_empty()).then(|| HeatMap {
        title: "Share of weights changed, by layer and kind of tensor".into(),
        description:
            "The stronger a cell, the larger the share of weights that differ; the scale counts in powers of ten."
                .into(),
        quantity: "share of the tensor's weights that changed (logarithmic scale)".into(),
        columns,
        rows: rows.collect(),
        singles,
    })
}

/// The distribution of the importance ratio with the threshold.
pub(super) fn log_ratio(report: &ForgetReport) -> Option<Histogram> {
    let histogram =
        report.log_ratio.as_ref().filter(|h| h.counts.iter().any(|c| *c > 0) && !h.lower_edges.is_empty())?;
    let threshold = report.method.threshold.filter(|t| *t > 0.0 && t.is_finite());
    let share = percent(report.method.selected_share);
    Some(Histogram {
        title: "Importance for the forget set relative to the retain set".into(),
        description: "How many weights have which ratio of importance; those right of the threshold were selected."
            .into(),
        axis: Axis::linear("log10 of F_forget / F_retain", |v| format!("{}", (v * 1e6).round() / 1e6)),
        edges: histogram.lower_edges.clone(),
        series: vec![HistogramSeries { name: "all weights".into(), counts: histogram.counts.clone() }],
        threshold: threshold.map(|t| (t.log10(), format!("threshold α = {}: {share} selected", format::number(t)))),
    })
}

/// The search for the largest share whose cost stays within the limit.
pub(super) fn search(report: &ForgetReport) -> Option<LineChart> {
    let points: Vec<(f64, f64)> =
        report.search.iter().filter(|p| p.share > 0.0 && p.share.is_finite()).map(|p| (p.share, p.loss_rise)).collect();
    if points.is_empty() {
        return None;
    }
    let limit = report.guard.as_ref().map(|g| g.limit);
    let share = report.method.selected_share;
    // The point that was taken is the one that was tried with the share that was selected.
    let nearest = points.iter().copied().min_by(|a, b| (a.0 / share).ln().abs().total_cmp(&(b.0 / share).ln().abs()));
    let taken = nearest.filter(|p| (p.0 / share - 1.0).abs() < 0.01 && p.1.is_finite());
    Some(LineChart {
        title: "What a larger selection costs".into(),
        description: "Rise of the loss on held-out retain samples for each selected share that was tried.".into(),
        x: Axis::logarithmic("selected share of the weights", percent).with_ticks(tick_percent),
        y: Axis::linear("rise of the held-out loss", signed_percent).with_ticks(signed_tick_percent),
        series: vec![LineSeries { name: "tried".into(), points }],
        limit: limit.map(|l| (l, format!("limit {}", signed_percent(l)))),
        mark: taken.map(|(x, y)| (x, y, format!("taken: {} at {}", percent(x), signed_percent(y)))),
        ceiling: limit.map(|l| (l * 5.0).max(0.01)),
    })
}
