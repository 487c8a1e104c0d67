//! The report as a page: the headline scores, then every form, the neighbours, attacks and membership, and how it was made.

use super::{
    AttackResult, EvalReport, attack_table, choice_table, membership_table, recovered, result_table, tofu_figures,
};
use crate::report::escape;
use crate::report::format::{counted, fixed, percent, tick_percent};
use crate::report::html::{Card, Document, Tone};
use crate::report::neighbours::{self, Kinship};
use crate::report::svg::{Axis, Bar, BarGroup, GroupedBars};
use crate::report::{provenance, scores};
use crate::stats::wilson;

/// From these shares of known facts on, a figure is what was wished for, and still fair.
const GOOD: f64 = 0.95;
const FAIR: f64 = 0.70;
/// Longer names are shortened in the summary; the tables have them in full.
const LONGEST_NAME: usize = 60;

/// The report as one HTML file that needs nothing else.
pub fn render_html(report: &EvalReport) -> String {
    let title = format!("efface eval: {}", report.model);
    let (headline, tone) = headline(report);
    let mut page = Document::new(&title, "efface: report of an evaluation", &headline, tone);
    page.lead(&lead(report));
    page.cards(&cards(report));
    for warning in &report.warnings {
        page.note(Tone::Fair, &format!("Warning: {warning}"));
    }
    every_form(&mut page, report);
    close_facts(&mut page, report);
    under_attack(&mut page, report);
    membership(&mut page, report);
    by_itself(&mut page, report);
    made(&mut page, report);
    page.finish(&format!(
        "Written by efface {}. `efface eval --json` prints every figure of this page.",
        report.version
    ))
}

/// How good a share of right outcomes is.
fn judged(share: Option<f64>) -> Tone {
    match share {
        Some(share) if share >= GOOD => Tone::Good,
        Some(share) if share >= FAIR => Tone::Fair,
        Some(_) => Tone::Bad,
        None => Tone::Plain,
    }
}

fn headline(report: &EvalReport) -> (String, Tone) {
    let (scores, part) = (&report.scores, |share: Option<f64>| share.map_or("unknown".into(), percent));
    if let (Some(worst), Some(mean)) = (scores.worst_form, scores.mean_form) {
        let diversity = format!("Form diversity: worst {}, mean {}", percent(worst), percent(mean));
        let lowest = scores.kept.map_or(worst, |kept| kept.min(worst));
        return (format!("{diversity}. Accuracy: {}.", part(scores.accuracy)), judged(Some(lowest)));
    }
    match scores.kept {
        Some(kept) => (format!("{} of what was known and is to be kept is kept.", percent(kept)), judged(Some(kept))),
        None => ("What the model answers".into(), Tone::Plain),
    }
}

fn lead(report: &EvalReport) -> String {
    let mut parts = vec![format!("Model {}", escape::shorten_middle(&report.model, LONGEST_NAME))];
    if !report.family.is_empty() {
        parts.push(escape::shorten(&report.family, LONGEST_NAME));
    }
    parts.push(counted(report.parameters, "parameter"));
    if let Some(baseline) = report.settings.get("baseline").and_then(|baseline| baseline.as_str()) {
        parts.push(format!("against {}", escape::shorten_middle(baseline, LONGEST_NAME)));
    }
    parts.join(" · ")
}

/// A card for everything that was measured against a baseline.
fn cards(report: &EvalReport) -> Vec<Card> {
    let card = |question: &str, share: f64, figure: String, text: String| Card {
        question: question.into(),
        answer: percent(share),
        tone: judged(Some(share)),
        figure,
        text,
    };
    let scores = &report.scores;
    let mut cards = Vec::new();
    if let (Some(worst), Some(name)) = (scores.worst_form, &scores.worst_form_name) {
        let figure = format!("worst of {}: {}", counted(scores.forms, "held-out form"), name);
        let text = "Share of the facts known in a form that its questions can no longer recover.".into();
        cards.push(card("What is gone, whatever the form?", worst, figure, text));
    }
    if let Some(kept) = scores.kept {
        let text = "Share of the known facts to be kept that are kept, over all forms.".into();
        cards.push(card("What is kept of the rest?", kept, String::new(), text));
    }
    let close = report.neighbours.iter().filter(|group| group.kinship != Kinship::None && group.kept.is_some());
    if let Some(least) = close.min_by(|a, b| a.kept.unwrap_or(1.0).total_cmp(&b.kept.unwrap_or(1.0))) {
        let figure = format!("{}: {}", least.kinship.name(), counted(least.known_probes, "known probe"));
        let text = "Share of the known probes of the neighbours that suffered most which are still answered.".into();
        cards.push(card("What is kept of the neighbours?", least.kept.unwrap_or(1.0), figure, text));
    }
    if let Some((attack, gone)) = strongest(report) {
        let text =
            "Share of the known facts, over all forms, that stay gone under the strongest of the attacks.".into();
        cards.push(card("What stays gone under attack?", gone, attack.name.clone(), text));
    }
    cards
}

/// The attack that recovers the largest share of what it asks for, and what stays gone.
fn strongest(report: &EvalReport) -> Option<(&AttackResult, f64)> {
    let gone = |attack: &AttackResult| {
        let (known, still) = recovered(&attack.forms);
        (known > 0).then(|| (known - still) as f64 / known as f64)
    };
    let measured = report.attacks.iter().filter_map(|attack| Some((attack, gone(attack)?)));
    measured.min_by(|(_, a), (_, b)| a.total_cmp(b))
}

fn every_form(page: &mut Document, report: &EvalReport) {
    let Some(picture) = scores::picture(&report.forms) else { return };
    page.section("Every form");
    for line in report.scores.lines() {
        page.paragraph(&line);
    }
    page.figure(
        picture.draw(),
        "Only what the model before knew counts. Longer is better in all of them; thin lines are 95 % intervals.",
    );
    page.table(&scores::table(&report.forms));
}

fn close_facts(page: &mut Document, report: &EvalReport) {
    let Some(picture) = neighbours::picture(&report.neighbours) else { return };
    page.section("Neighbours");
    page.figure(
        picture.draw(),
        "Facts to be kept, by what they share with one to be forgotten. A fact that shares its relation with one and its subject \
         with another is in both groups.",
    );
    page.table(&neighbours::table(&report.neighbours));
}

fn under_attack(page: &mut Document, report: &EvalReport) {
    if report.attacks.is_empty() {
        return;
    }
    page.section("Attacks");
    let group = |name: &str, forms: &[scores::FormScore]| {
        let (known, still) = recovered(forms);
        (known > 0).then(|| BarGroup {
            heading: None,
            label: name.into(),
            note: format!("{} known, every form counted", counted(known, "fact")),
            bars: vec![Bar { value: still as f64 / known as f64, interval: Some(wilson(still, known)) }],
        })
    };
    let attacks = report.attacks.iter().filter_map(|attack| group(&attack.name, &attack.forms));
    let groups: Vec<BarGroup> = group("no attack", &report.forms).into_iter().chain(attacks).collect();
    if !groups.is_empty() {
        let picture = GroupedBars {
            title: "What attacks bring back".into(),
            description: "The share of the known facts to be forgotten that the model gives, without and with attacks."
                .into(),
            series: vec!["recovered".into()],
            axis: Axis::linear("share of the known facts that is recovered", percent).with_ticks(tick_percent),
            limit: Some(1.0),
            groups,
        };
        page.figure(picture.draw(), "Shorter is better. Thin lines are 95 % intervals.");
    }
    page.table(&attack_table(report));
    page.paragraph("Worst and mean form: the share that stays gone, as in the headline.");
}

fn membership(page: &mut Document, report: &EvalReport) {
    if report.membership.is_empty() {
        return;
    }
    page.section("Membership inference");
    let group = |result: &super::MembershipResult| {
        let bars = vec![Bar { value: result.auc?, interval: None }];
        Some(BarGroup { heading: None, label: result.score.clone(), note: String::new(), bars })
    };
    let picture = GroupedBars {
        title: "Can members of the training data be told from others?".into(),
        description: "The area under the ROC curve of each score.".into(),
        series: vec!["area under the curve".into()],
        axis: Axis::linear("area under the ROC curve", |area| fixed(area, 3)).with_ticks(|area| fixed(area, 1)),
        limit: Some(1.0),
        groups: report.membership.iter().filter_map(group).collect(),
    };
    page.figure(picture.draw(), "0.5: members cannot be told from others. 1: they all look more like members.");
    page.table(&membership_table(report));
}

fn by_itself(page: &mut Document, report: &EvalReport) {
    if !report.results.is_empty() {
        page.section("The model by itself");
        page.table(&result_table(report));
    }
    if !report.choices.is_empty() {
        page.section("Right answers against wrong ones");
        page.table(&choice_table(report));
    }
    let figures = tofu_figures(report);
    if !figures.is_empty() {
        page.settings(&figures.into_iter().map(|(name, figure)| (name.to_owned(), figure)).collect::<Vec<_>>());
    }
}

fn made(page: &mut Document, report: &EvalReport) {
    page.section("How this was made");
    let device = &report.device;
    let pairs = [
        ("command", provenance::command_line(&report.command_line)),
        ("seed", report.seed.to_string()),
        ("model", report.model.clone()),
        ("SHA-256", report.model_sha256.clone()),
        ("device", device.name.clone()),
        ("device memory", provenance::memory(device.memory_peak, device.memory_budget)),
        ("host memory", provenance::memory(device.host_memory_peak, device.host_memory_budget)),
    ];
    page.settings(&pairs.map(|(name, value)| (name.to_owned(), value)));
    provenance::evidence(page, &report.data, &report.phases, &report.settings);
}
