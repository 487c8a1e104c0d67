//! How a report came about: what was read, how long it took, under which settings. Every kind of report ends with it.

use serde_json::{Map, Value};

use super::escape;
use super::forget::{DataFile, PhaseTime};
use super::format::{bytes, count, percent, seconds};
use super::html::Document;
use super::table::Table;

/// The parts of a page that say what was read, how long the phases took, and every setting.
pub(super) fn evidence(page: &mut Document, data: &[DataFile], phases: &[PhaseTime], settings: &Map<String, Value>) {
    if !data.is_empty() {
        page.subsection("Data");
        page.table(&files(data));
    }
    if !phases.is_empty() {
        page.subsection("Time");
        page.table(&times(phases));
    }
    if !settings.is_empty() {
        page.subsection("Settings");
        let pairs: Vec<_> = settings.iter().map(|(name, value)| (name.clone(), setting(value))).collect();
        page.settings(&pairs);
    }
}

fn files(data: &[DataFile]) -> Table {
    let mut table = Table::new(&["file", "used for", ">records", ">samples", ">tokens", "SHA-256"]);
    for file in data {
        table.row([
            file.path.clone(),
            file.used_for.clone(),
            count(file.records),
            count(file.samples),
            count(file.tokens),
            escape::shorten(&file.sha256, 17),
        ]);
    }
    table
}

fn times(phases: &[PhaseTime]) -> Table {
    let total: f64 = phases.iter().map(|phase| phase.seconds).sum();
    let share = |part: f64| if total == 0.0 { String::new() } else { percent(part / total) };
    let mut table = Table::new(&["phase", ">time", ">share"]);
    for phase in phases {
        table.row([phase.phase.clone(), seconds(phase.seconds), share(phase.seconds)]);
    }
    table.row(["all".to_owned(), seconds(total), String::new()]);
    table
}

/// The command as one would type it again.
pub(super) fn command_line(arguments: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = arguments.iter().map(|a| match a {
        a if !a.is_empty() && a.chars().all(plain) => a.clone(),
        a => format!("'{}'", a.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Memory in use and its limit, in words.
pub(super) fn memory(peak: Option<u64>, budget: Option<u64>) -> String {
    let peak = peak.map_or("peak not measured".to_owned(), |p| format!("{} at the peak", bytes(p)));
    format!("{peak}, {}", budget.map_or("no limit".to_owned(), |b| format!("limit {}", bytes(b))))
}

fn setting(value: &Value) -> String {
    match value {
        Value::Null => "not set".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(setting).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
