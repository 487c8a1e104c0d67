//! What a benchmark found: a table, a page with rooflines, JSON.

use serde::Serialize;

use super::format::{bytes, fixed, number, percent, scientific, seconds};
use super::html::{Document, Tone};
use super::svg::{Axis, LineChart, LineSeries, Roofline, RooflinePoint};
use super::table::Table;
use crate::bench::{Job, Line, Measured, Roofs};

/// A benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// The version of efface.
    pub version: String,
    /// The command and its arguments.
    pub command_line: Vec<String>,
    /// The device's name.
    pub device: String,
    /// The seed of the data.
    pub seed: u64,
    /// What the machine can do.
    pub roofs: Roofs,
    /// The kernels' cases.
    pub kernels: Vec<Measured>,
    /// Cases that were not run, and why.
    pub skipped: Vec<Skipped>,
    /// Whole passes.
    pub jobs: Vec<Job>,
    /// Cost against size.
    pub lines: Vec<Line>,
    /// What a reader must know beside the figures.
    pub notes: Vec<String>,
}

/// A case that was not run.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    /// Kernel, model, problem, tokens.
    pub case: String,
    /// Why.
    pub reason: String,
}

impl BenchReport {
    /// How many kernels' cases gave a wrong result.
    pub fn failed(&self) -> usize {
        self.kernels.iter().filter(|measured| !measured.accuracy.passes()).count()
    }
}

/// Operations per second: `131 GFLOP/s`.
fn rate(value: f64) -> String {
    with_unit(value, "FLOP/s")
}

/// Bytes per second: `17.2 GB/s`.
fn bandwidth(value: f64) -> String {
    with_unit(value, "B/s")
}

/// A figure with three digits and the unit's prefix.
fn with_unit(value: f64, unit: &str) -> String {
    let (scaled, prefix) = match value {
        v if v >= 1e12 => (v / 1e12, "T"),
        v if v >= 1e9 => (v / 1e9, "G"),
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e3 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let decimals = if scaled >= 100.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{} {prefix}{unit}", fixed(scaled, decimals))
}

fn roofs_line(roofs: &Roofs) -> String {
    let mut parts = vec![
        format!("copy {}", bandwidth(roofs.copy)),
        format!("multiply-add {}", rate(roofs.multiply_add)),
        format!("they meet at {} operations a byte", number((roofs.ridge() * 10.0).round() / 10.0)),
    ];
    parts.extend(roofs.product.map(|v| format!("dense product {}", rate(v))));
    parts.extend(roofs.upload.map(|v| format!("upload {}", bandwidth(v))));
    parts.extend(roofs.download.map(|v| format!("download {}", bandwidth(v))));
    parts.join(", ")
}

fn kernels_table(report: &BenchReport) -> Table {
    let titles = [
        "kernel", "problem", ">tokens", ">median", ">spread", ">GB/s", ">GFLOP/s", ">of roof", "bound by", ">error",
        "check",
    ];
    let mut table = Table::new(&titles);
    let mut model = None;
    for measured in &report.kernels {
        if model != Some(measured.model) {
            table.heading(measured.model);
            model = Some(measured.model);
        }
        let tokens = if measured.tokens == 0 { String::new() } else { measured.tokens.to_string() };
        let (share, by) = measured.roof.map_or((String::new(), ""), |roof| (percent(roof.share), roof.by.name()));
        table.row([
            measured.kernel.to_string(),
            measured.problem.clone(),
            tokens,
            seconds_short(measured.timing.median),
            percent(measured.timing.spread()),
            fixed(measured.bandwidth() / 1e9, 1),
            fixed(measured.rate() / 1e9, 1),
            share,
            by.to_string(),
            scientific(measured.accuracy.error),
            if measured.accuracy.passes() { "PASS" } else { "FAIL" }.to_string(),
        ]);
    }
    table
}

/// A short duration with its unit: `12.3 µs`.
fn seconds_short(value: f64) -> String {
    if value < 1e-3 { format!("{} µs", fixed(value * 1e6, 1)) } else { seconds(value) }
}

fn jobs_table(report: &BenchReport) -> Table {
    let titles = [
        "pass",
        ">samples",
        ">tokens",
        ">seconds",
        ">least",
        ">most",
        ">s/sample",
        ">GFLOP/s",
        ">of product",
        ">peak",
        "weights",
    ];
    let mut table = Table::new(&titles);
    for job in &report.jobs {
        let [median, least, most] = job.seconds;
        let share = report.roofs.product.map_or(String::new(), |product| percent(job.rate / product));
        table.row([
            job.name.clone(),
            job.samples.to_string(),
            job.tokens.to_string(),
            fixed(median, 3),
            fixed(least, 3),
            fixed(most, 3),
            fixed(median / job.samples as f64, 4),
            fixed(job.rate / 1e9, 1),
            share,
            bytes(job.peak_device),
            if job.resident { "resident" } else { "streamed" }.to_string(),
        ]);
    }
    table
}

fn line_text(line: &Line) -> String {
    let slope = scientific(line.slope);
    format!("seconds = {} + {slope} · {}, R² = {}", number(line.start), line.over, fixed(line.r_squared, 4))
}

/// The report as text for a terminal.
pub fn render_text(report: &BenchReport, max_width: Option<usize>) -> String {
    let mut out = format!("{}\nroofs: {}\n", report.device, roofs_line(&report.roofs));
    if !report.kernels.is_empty() {
        out.push('\n');
        out.push_str(&kernels_table(report).to_text(max_width));
    }
    if !report.jobs.is_empty() {
        out.push('\n');
        out.push_str(&jobs_table(report).to_text(max_width));
    }
    for line in &report.lines {
        out.push_str(&format!("\ncost over {}: {}", line.over, line_text(line)));
    }
    if !report.lines.is_empty() {
        out.push('\n');
    }
    if !report.skipped.is_empty() {
        out.push_str(&format!("\nskipped: {}\n", super::format::counted(report.skipped.len() as u64, "case")));
        for skipped in &report.skipped {
            out.push_str(&format!("  {}: {}\n", skipped.case, skipped.reason));
        }
    }
    for note in &report.notes {
        out.push_str(&format!("{}\n", super::escape::terminal(note)));
    }
    if !report.kernels.is_empty() {
        let verdict = match report.failed() {
            0 => "all right".to_string(),
            failed => format!("{failed} WRONG"),
        };
        out.push_str(&format!("\n{} checked against float64: {verdict}\n", report.kernels.len()));
    }
    out
}

/// The report as one JSON object.
pub fn render_json(report: &BenchReport) -> String {
    super::to_json(report)
}

/// The report as a page.
pub fn render_html(report: &BenchReport) -> String {
    let (headline, tone) = match (report.failed(), report.kernels.len()) {
        (0, 0) => ("Whole passes, timed".to_string(), Tone::Plain),
        (0, all) => (format!("{all} cases, all right"), Tone::Good),
        (failed, all) => (format!("{failed} of {all} cases are wrong"), Tone::Bad),
    };
    let mut page = Document::new("efface bench", "Benchmark by efface", &headline, tone);
    page.lead(&report.device);
    page.lead(&format!("Roofs: {}.", roofs_line(&report.roofs)));
    for note in &report.notes {
        page.note(Tone::Fair, note);
    }
    if !report.kernels.is_empty() {
        page.section("Kernels under their roofs");
        page.figure(
            roofline(report).draw(rate),
            "A point is a kernel's problem: how much it computes for each byte that it moves, and how fast. What is left of \
             the bend is bound by memory, what is right of it by arithmetic. Small problems that stay in a cache can lie above the slope.",
        );
        page.table(&kernels_table(report));
    }
    if !report.jobs.is_empty() {
        page.section("Whole passes");
        page.table(&jobs_table(report));
    }
    for line in &report.lines {
        page.subsection(&format!("Cost over {}", line.over));
        page.figure(line_chart(line).draw(), &line_text(line));
    }
    if !report.skipped.is_empty() {
        page.section("Not run");
        let mut table = Table::new(&["case", "why"]);
        for skipped in &report.skipped {
            table.row([skipped.case.clone(), skipped.reason.clone()]);
        }
        page.table(&table);
    }
    page.finish(&format!("efface {} · {}", report.version, report.command_line.join(" ")))
}

fn roofline(report: &BenchReport) -> Roofline {
    let group = |kernel: &str| match kernel.split('/').next().unwrap_or("") {
        "linear" => 0,
        "attention" => 1,
        _ => 2,
    };
    let point = |m: &Measured| RooflinePoint {
        name: format!("{} {} {}, {} tokens", m.kernel, m.model, m.problem, m.tokens),
        group: group(m.kernel),
        intensity: m.cost.operations as f64 / m.cost.bytes.max(1) as f64,
        rate: m.rate(),
    };
    let mut ceilings = vec![(report.roofs.multiply_add, format!("multiply-add {}", rate(report.roofs.multiply_add)))];
    ceilings.extend(report.roofs.product.map(|p| (p, format!("dense product {}", rate(p)))));
    Roofline {
        title: "Rooflines of this machine and where the kernels lie".into(),
        description: format!("{} cases under the roofs of {}", report.kernels.len(), report.device),
        bandwidth: report.roofs.copy,
        ceilings,
        groups: ["products and importance", "attention", "everything else"].map(String::from).to_vec(),
        points: report.kernels.iter().map(point).collect(),
    }
}

fn line_chart(line: &Line) -> LineChart {
    let fitted = |x: f64| (x, line.start + line.slope * x);
    let ends = line.points.iter().map(|p| p.0);
    let (first, last) = (ends.clone().fold(f64::INFINITY, f64::min), ends.fold(0.0, f64::max));
    LineChart {
        title: format!("Seconds over {}", line.over),
        description: line_text(line),
        x: Axis::linear(line.over, super::format::short_count),
        y: Axis::linear("seconds", number),
        series: vec![
            LineSeries { name: "measured".into(), points: line.points.clone() },
            LineSeries { name: "least squares".into(), points: vec![fitted(first), fitted(last)] },
        ],
        limit: None,
        mark: None,
        ceiling: None,
    }
}
