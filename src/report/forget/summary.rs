//! The report in a terminal: the answers, a table of before and after, and where the files are.

use super::pictures::{heading, in_order};
use super::verdict::Verdict;
use super::{Change, ForgetReport, ProbeResult};
use crate::report::escape;
use crate::report::format::{count, percent};
use crate::report::neighbours;
use crate::report::table::Table;

/// The summary as text, each line ended by a line break. `max_width` is the terminal's width, if there is one: tables
/// give way where they can and sentences are wrapped.
pub fn render_text(report: &ForgetReport, max_width: Option<usize>) -> String {
    let verdict = Verdict::of(report);
    let mut out = String::new();
    push_wrapped(&mut out, &verdict.headline, "", max_width);
    for line in report.scores.lines() {
        push_wrapped(&mut out, &line, "                ", max_width);
    }
    out.push('\n');
    if !report.probes.is_empty() {
        out.push_str(&probe_table(report).to_text(max_width));
        out.push('\n');
    }
    if !report.neighbours.is_empty() {
        out.push_str(&neighbours::table(&report.neighbours).to_text(max_width));
        out.push('\n');
    }
    let findings = [
        ("removed", &verdict.removed),
        ("intact", &verdict.intact),
        ("changed", &verdict.changed),
        ("sure", &verdict.supported),
    ];
    for (name, finding) in findings {
        let figure = if finding.figure.is_empty() { String::new() } else { format!(" ({})", finding.figure) };
        let text = format!("{name:<9}{}{figure}. {}", finding.word, finding.text);
        push_wrapped(&mut out, &text, "         ", max_width);
    }
    if let Some(text) = super::forms::sentence(report) {
        push_wrapped(&mut out, &format!("forms    {text}"), "         ", max_width);
    }
    for warning in &report.warnings {
        push_wrapped(&mut out, &format!("warning  {warning}"), "         ", max_width);
    }
    if !report.outputs.is_empty() {
        out.push('\n');
        let longest = report.outputs.iter().map(|o| escape::width(&o.what)).max().unwrap_or(0);
        for output in &report.outputs {
            // Paths are for copying: never shortened, never wrapped.
            let padding = " ".repeat(longest - escape::width(&output.what));
            let line = format!("{}{padding}  {}", escape::terminal(&output.what), escape::terminal(&output.path));
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

fn probe_table(report: &ForgetReport) -> Table {
    let mut table =
        Table::new(&["form", ">probes", "seen", ">prob.", ">after", ">kept", ">exact", ">after", ">ROUGE-L", ">after"]);
    let mut previous = None;
    for probe in in_order(report) {
        if let Some(text) = heading(previous, probe) {
            table.heading(text);
        }
        table.row(probe_cells(probe));
        previous = Some(probe);
    }
    table
}

/// A line of the before/after table: form, probes, whether the removal saw it, then the figures.
pub(super) fn probe_cells(probe: &ProbeResult) -> [String; 10] {
    let figures = |change: &Option<Change>| match change {
        Some(change) => [percent(change.before), percent(change.after)],
        None => [String::new(), String::new()],
    };
    let [probability_before, probability_after] = figures(&Some(probe.probability));
    let [exact_before, exact_after] = figures(&probe.exact_match);
    let [rouge_before, rouge_after] = figures(&probe.rouge_l);
    let seen = if probe.held_out { "no" } else { "yes" };
    let kept = kept_share(probe.probability.after, probe.probability.before);
    [
        probe.form.clone(),
        count(probe.probes),
        seen.into(),
        probability_before,
        probability_after,
        kept,
        exact_before,
        exact_after,
        rouge_before,
        rouge_after,
    ]
}

/// `part / whole` as a percentage; nothing where there is no whole.
fn kept_share(part: f64, whole: f64) -> String {
    if whole == 0.0 { String::new() } else { percent(part / whole) }
}

/// Words filled into lines of at most `max_width`, all but the first indented.
fn push_wrapped(out: &mut String, text: &str, indent: &str, max_width: Option<usize>) {
    let text = escape::terminal(text);
    let limit = max_width.unwrap_or(usize::MAX).max(40);
    let mut line = String::new();
    for (i, word) in text.split(' ').enumerate() {
        if i > 0 && escape::width(&line) + 1 + escape::width(word) > limit && !line.trim().is_empty() {
            out.push_str(line.trim_end());
            out.push('\n');
            line = indent.to_owned();
        } else if i > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(line.trim_end());
    out.push('\n');
}
