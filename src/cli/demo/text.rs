//! What came of the demo, on one screen: the scores, every form, and what leaks from form to form.

use std::path::Path;

use efface::report::ForgetReport;
use efface::report::forget::{Role, Verdict};
use efface::report::format::{count, percent};
use efface::report::scores::FormScore;
use efface::report::table::Table;

use super::leak::REWORDED;
use super::quoted;

/// The summary, each line ended by a line break.
pub fn summary(report: &ForgetReport, directory: &Path, max_width: Option<usize>) -> String {
    let mut out = Verdict::of(report).headline + "\n";
    report.scores.lines().iter().for_each(|line| out.push_str(&format!("{line}\n")));
    out.push_str(
        "\nFacts that were known, and the share that is left. The removal saw the first words of five forms only:\n\n",
    );
    out.push_str(&every_form(&report.forms).to_text(max_width));
    if !report.leak.forgotten_in.is_empty() {
        out.push_str("\nForgotten in one form alone (columns), asked in the other words of each (lines): the share that is left\n\n");
        out.push_str(&report.leak.table().to_text(max_width));
    }
    let at = |name: &str| quoted(&directory.join(name).display().to_string());
    out.push_str(&format!(
        "\nNext: open {}, or ask the edited model yourself, or undo it:\n\n  efface eval --eos --model {} --baseline {} \\\n      \
         --probes-forget {} --attack 4-bit,sampling --html eval.html\n  efface revert --model {} --patch {} --out {}\n",
        at("report/report.html"),
        at("edited"),
        at("model"),
        at("data/probes/forget.jsonl"),
        at("edited"),
        at("removal.patch"),
        at("restored"),
    ));
    out
}

/// A line for each form: what is left of what was to be forgotten in its own and in other words, and of everybody else.
fn every_form(forms: &[FormScore]) -> Table {
    let titles = ["form", "seen", ">known", ">left", ">reworded: known", ">left", ">others known", ">kept"];
    let mut table = Table::new(&titles);
    let find = |name: &str, forget: bool| {
        forms.iter().find(|score| score.form == name && (score.role == Role::Forget) == forget)
    };
    let cells = |score: Option<&FormScore>| match score.filter(|score| score.known > 0) {
        Some(score) => [count(score.known), percent(score.still as f64 / score.known as f64)],
        None => [String::new(), String::new()],
    };
    for score in forms.iter().filter(|score| score.role == Role::Forget && !score.form.ends_with(REWORDED)) {
        let seen = if score.held_out { "no" } else { "yes" };
        let first = [score.form.clone(), seen.into()];
        let reworded = find(&format!("{}{REWORDED}", score.form), true);
        let rest = [Some(score), reworded, find(&score.form, false)].into_iter().flat_map(cells);
        table.row(first.into_iter().chain(rest));
    }
    table
}
