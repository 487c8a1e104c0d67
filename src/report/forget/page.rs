//! The report as a page. Its first screen answers four questions; what follows is the evidence, then how it was made.

use super::pictures::{self, heading, in_order};
use super::summary::probe_cells;
use super::verdict::{Answer, Finding, Verdict};
use super::{ForgetReport, Role};
use crate::report::format::{count, counted, fixed, number, percent, signed_percent};
use crate::report::html::{Card, Document, Tone};
use crate::report::scores::LeakMatrix;
use crate::report::table::Table;
use crate::report::{escape, neighbours, provenance, scores};

/// Longer names are shortened in the summary; the tables have them in full.
const LONGEST_NAME: usize = 60;
/// Longer texts are cut on the page; the JSON has all of them.
const LONGEST_TEXT: usize = 600;
/// More examples than this are left to the JSON.
const MOST_EXAMPLES: usize = 24;

/// The report as one HTML file that needs nothing else.
pub fn render_html(report: &ForgetReport) -> String {
    let verdict = Verdict::of(report);
    let tone = match (verdict.success, verdict.removed.answer) {
        (true, _) => Tone::Good,
        (_, Answer::No) => Tone::Bad,
        _ if verdict.intact.answer == Answer::No => Tone::Bad,
        _ => Tone::Fair,
    };
    let title = format!("efface forget: {}", report.model.path);
    let mut page = Document::new(&title, "efface: report of a removal", &verdict.headline, tone);
    page.lead(&lead(report));
    page.cards(&cards(&verdict));
    for warning in &report.warnings {
        page.note(Tone::Fair, &format!("Warning: {warning}"));
    }
    before_and_after(&mut page, report);
    examples(&mut page, report);
    what_changed(&mut page, report);
    how_chosen(&mut page, report);
    provenance(&mut page, report);
    page.finish(&format!("Written by efface {}. Every figure of this page is in report.json.", report.version))
}

fn lead(report: &ForgetReport) -> String {
    let model = &report.model;
    let path = |path: &str| escape::shorten_middle(path, LONGEST_NAME);
    let name = |name: &str| escape::shorten(name, LONGEST_NAME);
    let mut parts = vec![format!("Model {}", path(&model.path))];
    if !model.family.is_empty() {
        parts.push(name(&model.family));
    }
    parts.push(counted(model.parameters, "parameter"));
    parts.push(format!("method {}", name(&report.method.name)));
    parts.push(match report.outputs.iter().find(|o| o.what.contains("checkpoint")) {
        Some(output) => format!("written to {}", path(&output.path)),
        None if model.sha256_after.is_none() => "no checkpoint written".into(),
        None => "checkpoint written".into(),
    });
    parts.join(" · ")
}

fn cards(verdict: &Verdict) -> [Card; 4] {
    let card = |question: &str, finding: &Finding, tone: Tone| Card {
        question: question.to_owned(),
        answer: finding.word.clone(),
        tone,
        figure: finding.figure.clone(),
        text: finding.text.clone(),
    };
    let judged = |finding: &Finding| match finding.answer {
        Answer::Yes => Tone::Good,
        Answer::Partly => Tone::Fair,
        Answer::No => Tone::Bad,
        Answer::Unknown => Tone::Fair,
    };
    let changed = if verdict.changed.answer == Answer::No { Tone::Bad } else { Tone::Plain };
    [
        card("Was the knowledge removed?", &verdict.removed, judged(&verdict.removed)),
        card("Is everything else intact?", &verdict.intact, judged(&verdict.intact)),
        card("What was changed?", &verdict.changed, changed),
        card("How sure is this?", &verdict.supported, judged(&verdict.supported)),
    ]
}

fn before_and_after(page: &mut Document, report: &ForgetReport) {
    page.section("Before and after");
    for line in report.scores.lines() {
        page.paragraph(&line);
    }
    if report.forms.iter().any(|form| form.known > 0) {
        page.table(&scores::table(&report.forms));
    }
    leaks(page, report);
    if let Some(picture) = neighbours::picture(&report.neighbours) {
        page.figure(picture.draw(), "Facts to be kept, by what they share with those to be forgotten.");
        page.table(&neighbours::table(&report.neighbours));
    }
    let Some(picture) = pictures::before_after(report) else {
        return page.paragraph("No probes were given, so nothing is known about the answers of the edited model.");
    };
    let intervals =
        report.probes.iter().any(|p| p.probability.before_interval.or(p.probability.after_interval).is_some());
    let whiskers = if intervals { " Thin lines are confidence intervals." } else { "" };
    page.figure(
        picture.draw(),
        &format!(
            "What is to be forgotten should fall to the left, everything else should stay. Held-out forms and wordings were not used for the removal.{whiskers}"
        ),
    );
    let mut table = Table::new(&[
        "form",
        ">probes",
        "removal saw it",
        ">probability before",
        ">after",
        ">kept",
        ">exact before",
        ">after",
        ">ROUGE-L before",
        ">after",
    ]);
    let mut previous = None;
    for probe in in_order(report) {
        if let Some(text) = heading(previous, probe) {
            table.heading(text);
        }
        table.row(probe_cells(probe));
        previous = Some(probe);
    }
    page.table(&table);
    page.paragraph(
        "Probability: of the gold answer, exp of its mean log-probability per token, averaged over the probes. Kept: after divided by before. Exact: greedy decoding gives the gold answer. ROUGE-L: recall of the gold answer in the decoded one.",
    );
}

/// What is left in every form, beside models that forgot in one form alone where there are some.
fn leaks(page: &mut Document, report: &ForgetReport) {
    let alone = !report.leak.forgotten_in.is_empty();
    let leak = if alone { report.leak.clone() } else { LeakMatrix::of_run("this removal", &report.forms) };
    if leak.known.iter().all(|known| *known == 0) {
        return;
    }
    let others = if alone { "A row is a model that forgot in the form it is named after. " } else { "" };
    page.figure(
        leak.picture().draw(),
        &format!("{others}A cell is the share of the facts known in a form that the edited model still answers in it."),
    );
}

fn examples(page: &mut Document, report: &ForgetReport) {
    if report.examples.is_empty() {
        return;
    }
    page.section("Examples");
    if report.redacted {
        page.paragraph("Texts are replaced by the beginning of their SHA-256 hashes; equal texts have equal hashes.");
    } else if report.examples.iter().any(|e| e.role == Role::Forget) {
        page.note(
            Tone::Fair,
            "This section quotes what was to be forgotten. Keep it as you would keep the data, or run with --redact.",
        );
    }
    for example in report.examples.iter().take(MOST_EXAMPLES) {
        let cut = |text: &str| match text {
            "" => "(empty)".to_owned(),
            text => escape::shorten(text, LONGEST_TEXT),
        };
        let (question, gold) = (cut(&example.question), cut(&example.gold));
        let (before, after) = (cut(&example.before), cut(&example.after));
        let lines = [
            ("question", &*question),
            ("right answer", &*gold),
            ("answer before", &*before),
            ("answer after", &*after),
        ];
        page.example(&format!("{}, {}", pictures::role_name(example.role), example.form), &lines);
    }
    if report.examples.len() > MOST_EXAMPLES {
        let more = (report.examples.len() - MOST_EXAMPLES) as u64;
        page.paragraph(&format!("{} in report.json.", counted(more, "more example")));
    }
}

fn what_changed(page: &mut Document, report: &ForgetReport) {
    page.section("What was changed");
    let (changed, total) = report.changed_total();
    let Some(picture) = pictures::changed_weights(report) else {
        return page.paragraph("Which weights changed was not counted.");
    };
    page.figure(
        picture.draw(),
        "Where the changed weights lie. An empty cell with a 0 has no changed weight; no cell, no such tensor.",
    );
    let mut kinds: Vec<(&str, u64, u64)> = Vec::new();
    for entry in &report.changed {
        match kinds.iter_mut().find(|k| k.0 == entry.kind) {
            Some(kind) => (kind.1, kind.2) = (kind.1.saturating_add(entry.changed), kind.2.saturating_add(entry.total)),
            None => kinds.push((&entry.kind, entry.changed, entry.total)),
        }
    }
    let mut table = Table::new(&["kind of tensor", ">changed", ">weights", ">share"]);
    let share = |changed: u64, total: u64| if total == 0 { "".into() } else { percent(changed as f64 / total as f64) };
    for (kind, changed, total) in kinds {
        table.row([kind.to_owned(), count(changed), count(total), share(changed, total)]);
    }
    table.row(["all".to_owned(), count(changed), count(total), share(changed, total)]);
    page.table(&table);
}

fn how_chosen(page: &mut Document, report: &ForgetReport) {
    page.section("How the weights were chosen");
    let method = &report.method;
    let mut pairs = vec![("method".to_owned(), method.name.clone())];
    let mut add = |name: &str, value: Option<String>| pairs.extend(value.map(|v| (name.to_owned(), v)));
    add("threshold α", method.threshold.map(number));
    add("dampening λ", method.lambda.map(number));
    add("selected", Some(format!("{} ({})", counted(method.selected, "weight"), percent(method.selected_share))));
    if let Some(guard) = &report.guard {
        add(
            "held-out loss before",
            Some(format!(
                "{} nats per token, {}",
                fixed(guard.loss_before, 4),
                counted(guard.held_out_samples, "sample")
            )),
        );
        let verdict = if guard.accepted { "accepted" } else { "not accepted" };
        let (rise, limit) = (signed_percent(guard.rise()), signed_percent(guard.limit));
        add("held-out loss after", Some(format!("{} ({rise}, limit {limit}): {verdict}", fixed(guard.loss_after, 4))));
    }
    page.settings(&pairs);
    if let Some(picture) = pictures::log_ratio(report) {
        let shown =
            if report.method.threshold.is_some() { " Weights right of the dashed line were selected." } else { "" };
        let lowest = report.log_ratio.as_ref().and_then(|h| h.lower_edges.first().zip(h.counts.first()));
        let open = match lowest {
            Some((edge, count)) if !edge.is_finite() && *count > 0 => {
                " The leftmost bar counts everything below as well."
            }
            _ => "",
        };
        page.figure(
            picture.draw(),
            &format!("How much more the forget set needs a weight than the retain set does.{shown}{open}"),
        );
    }
    if let Some(picture) = pictures::search(report) {
        page.figure(
            picture.draw(),
            "Each point is a share that was tried. Points at the upper edge cost more than the picture has room for.",
        );
    }
    super::forms::section(page, report);
    super::heads::section(page, report);
    super::redirection::section(page, report);
    super::training::section(page, report);
}

fn provenance(page: &mut Document, report: &ForgetReport) {
    page.section("How this was made");
    let model = &report.model;
    let device = &report.device;
    let mut pairs = vec![
        ("command", provenance::command_line(&report.command_line)),
        ("seed", report.seed.to_string()),
        ("model", model.path.clone()),
        ("SHA-256 before", model.sha256_before.clone()),
        ("SHA-256 after", model.sha256_after.clone().unwrap_or_else(|| "no checkpoint was written".into())),
        ("device", device.name.clone()),
        ("device memory", provenance::memory(device.memory_peak, device.memory_budget)),
        ("host memory", provenance::memory(device.host_memory_peak, device.host_memory_budget)),
    ];
    pairs.extend(report.outputs.iter().map(|o| (o.what.as_str(), o.path.clone())));
    let owned: Vec<(String, String)> = pairs.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
    page.settings(&owned);
    provenance::evidence(page, &report.data, &report.phases, &report.settings);
}
