//! Whole reports: pages that stand in every case, JSON that reads back, files that appear whole.

use std::fs;

use serde_json::Value;

use super::{markup, sample};
use crate::report::eval::{self, AttackResult, EvalResult, MembershipResult};
use crate::report::forget::{Role, UtilityGuard, render_html, render_json, render_text};
use crate::report::format::{number, percent};
use crate::report::html::{Document, Tone};
use crate::report::neighbours::{Kinship, Neighbours};
use crate::report::scores::{FormScore, LeakMatrix, Scores};
use crate::report::svg::*;
use crate::report::{EvalReport, ForgetReport, write_report};
use crate::stats::wilson;

fn cases() -> Vec<(&'static str, ForgetReport)> {
    vec![
        ("good", sample::good(30)),
        ("one-layer", sample::good(1)),
        ("many-layers", sample::good(80)),
        ("trained", sample::trained()),
        ("nothing-selected", sample::nothing_selected()),
        ("destroyed", sample::destroyed()),
        ("empty", sample::empty()),
        ("hostile", sample::hostile()),
    ]
}

/// Set EFFACE_REPORT_GALLERY to a directory to keep the pages and look at them.
fn keep(name: &str, page: &str) {
    if let Some(dir) = std::env::var_os("EFFACE_REPORT_GALLERY") {
        fs::create_dir_all(&dir).unwrap();
        fs::write(std::path::Path::new(&dir).join(name), page).unwrap();
    }
}

#[test]
fn pictures_that_stand_alone_fit_a_page() {
    let names: Vec<String> =
        ["question", "statement in the third person", "cloze", "Čapek 漢字"].map(String::from).to_vec();
    let cell = |r: usize, c: usize| (r != c + 1).then(|| 0.9 / (1.0 + (r as f64 - c as f64).abs()));
    let matrix = Matrix {
        title: "What is left in one form when another was removed".into(),
        description: "Rows: the form used for the removal. Columns: the form that was asked.".into(),
        row_axis: "removed in".into(),
        column_axis: "asked in".into(),
        rows: names.clone(),
        columns: names,
        cells: (0..4).map(|r| (0..4).map(|c| cell(r, c)).collect()).collect(),
        format: percent,
    };
    let bell = |centre: f64| (0..60).map(|b| (1e6 * (-(f64::from(b) - centre).powi(2) / 40.0).exp()) as u64).collect();
    let histogram = Histogram {
        title: "Two distributions".into(),
        description: "Before and after.".into(),
        axis: Axis::linear("log10 of F_forget / F_retain", number),
        edges: (0..60).map(|b| f64::from(b) / 10.0 - 3.0).collect(),
        series: [("before", 25.0), ("after", 20.0)]
            .map(|(n, c)| HistogramSeries { name: n.into(), counts: bell(c) })
            .to_vec(),
        threshold: Some((-2.6, "threshold far to the left".into())),
    };
    let curve = |factor: f64| (6..12).map(|e| (f64::from(e), factor * f64::from(e).powf(1.7))).collect();
    let chart = LineChart {
        title: "Cost".into(),
        description: "Seconds over size.".into(),
        x: Axis::linear("layers", number),
        y: Axis::linear("seconds", number),
        series: [("efface", 0.2), ("other", 0.5)]
            .map(|(n, f)| LineSeries { name: n.into(), points: curve(f) })
            .to_vec(),
        limit: None,
        mark: None,
        ceiling: None,
    };
    let mut page = Document::new("pictures", "pictures", "Pictures", Tone::Plain);
    page.section("One after the other");
    page.figure(matrix.draw(), "matrix");
    page.figure(histogram.draw(), "histogram");
    page.figure(chart.draw(), "chart");
    let page = page.finish("");
    markup::check(&page).unwrap();
    keep("pictures.html", &page);
}

#[test]
fn every_case_is_a_well_formed_page_that_needs_nothing_else() {
    for (name, report) in cases() {
        let page = render_html(&report);
        markup::check(&page).unwrap_or_else(|e| panic!("{name}: {e}"));
        for outside in ["<script", "<link", "<img", "@import", "url(", "src="] {
            assert!(!page.contains(outside), "{name}: {outside}");
        }
        assert!(page.len() < 400_000, "{name}: {} bytes", page.len());
        keep(&format!("{name}.html"), &page);
        keep(&format!("{name}.txt"), &render_text(&report, Some(100)));
    }
}

#[test]
fn the_first_screen_answers_the_four_questions_before_any_picture() {
    let page = render_html(&sample::good(30));
    let first = markup::text_of(page.split_once("<svg").unwrap().0);
    for wanted in [
        "Was the knowledge removed?",
        "89.4% → 9.2%",
        "Is everything else intact?",
        "What was changed?",
        "How sure is this?",
    ] {
        assert!(first.contains(wanted), "{wanted}");
    }
    assert_eq!(page.matches("role=\"img\"").count(), 4);
    assert_eq!(page.matches("<desc>").count(), 4);
}

/// Where two JSON values differ. The JSON reader may miss a figure's last bit, so that much is no difference.
fn difference(a: &Value, b: &Value, at: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) if x.keys().eq(y.keys()) => {
            x.iter().find_map(|(key, value)| difference(value, &y[key], &format!("{at}.{key}")))
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).enumerate().find_map(|(i, (v, w))| difference(v, w, &format!("{at}[{i}]")))
        }
        (Value::Number(x), Value::Number(y)) if x.is_f64() && y.is_f64() => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            ((x - y).abs() > f64::EPSILON * x.abs()).then(|| format!("{at}: {x} {y}"))
        }
        _ => (a != b).then(|| format!("{at}: {a} {b}")),
    }
}

#[test]
fn json_reads_back_into_the_same_report() {
    for (name, report) in cases() {
        let written = render_json(&report);
        let back: ForgetReport = serde_json::from_str(&written).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (written, again) = [written, render_json(&back)].map(|t| serde_json::from_str::<Value>(&t).unwrap()).into();
        assert_eq!(difference(&written, &again, name), None);
    }
}

#[test]
fn json_keeps_infinite_figures_and_starts_with_the_verdict() {
    let value: serde_json::Value = serde_json::from_str(&render_json(&sample::destroyed())).unwrap();
    assert_eq!(value.as_object().unwrap().keys().next().unwrap(), "verdict");
    assert_eq!(value["verdict"]["intact"]["answer"], "no");
    assert_eq!(value["guard"]["loss_after"], "Infinity");
    assert_eq!(value["probes"][4]["probability"]["after"], "NaN");
    let back: ForgetReport = serde_json::from_value(value).unwrap();
    assert!(back.guard.unwrap().loss_after.is_infinite() && back.probes[4].probability.after.is_nan());
    let mut wrong = serde_json::to_value(UtilityGuard {
        held_out_samples: 1,
        loss_before: 1.0,
        loss_after: 1.0,
        limit: 0.1,
        accepted: true,
    })
    .unwrap();
    wrong["limit"] = "much".into();
    assert!(serde_json::from_value::<UtilityGuard>(wrong).unwrap_err().to_string().contains("Infinity"));
}

#[test]
fn files_are_written_whole_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("new/report");
    write_report(&target, &sample::destroyed()).unwrap();
    write_report(&target, &sample::good(2)).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(&target).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["report.html", "report.json"]);
    assert_eq!(fs::read_to_string(target.join("report.html")).unwrap(), render_html(&sample::good(2)));
    assert_eq!(fs::read_to_string(target.join("report.json")).unwrap(), render_json(&sample::good(2)) + "\n");
}

#[test]
fn a_report_that_cannot_be_written_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    let error = write_report(&file, &sample::good(1)).unwrap_err();
    assert!(error.to_string().contains("file") && !error.is_input(), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    // A directory stands where report.json is to go: nothing half is left behind.
    let taken = dir.path().join("taken");
    fs::create_dir_all(taken.join("report.json/x")).unwrap();
    assert!(write_report(&taken, &sample::good(1)).unwrap_err().to_string().contains("report.json"));
    let left =
        fs::read_dir(&taken).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("partial"));
    assert_eq!(left.count(), 0);
}

#[test]
fn an_eval_report_is_a_table_and_json() {
    let result = |form: &str, probability, loss| EvalResult {
        file: "probes.jsonl".into(),
        form: form.into(),
        probes: 24,
        probability,
        loss,
        exact_match: Some(0.5),
        rouge_l: None,
    };
    let report = EvalReport {
        results: vec![result("question", 0.912, Some(0.0921)), result("cloze\u{1b}[1m", f64::NAN, Some(f64::INFINITY))],
        warnings: vec!["few\nprobes".into()],
        ..EvalReport::default()
    };
    let expected = "  form           probes  probability  exact  ROUGE-L   loss
  ─────────────  ──────  ───────────  ─────  ───────  ─────
probes.jsonl
  question           24        91.2%  50.0%           0.092
  cloze\u{fffd}[1m        24          NaN  50.0%               ∞
warning: few probes
";
    let text = eval::render_text(&report, None);
    let squeeze = |t: &str| {
        t.lines()
            .map(|l| l.split_whitespace().filter(|w| !w.starts_with('─')).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(squeeze(&text), squeeze(expected), "{text}");
    let json = eval::render_json(&report);
    let back: EvalReport = serde_json::from_str(&json).unwrap();
    assert_eq!(eval::render_json(&back), json);
}

#[test]
fn a_training_is_shown_point_by_point() {
    let page = render_html(&sample::trained());
    assert!(page.contains("What forgetting costs") && page.contains("taken: 1.9"), "no picture");
    let row = |phase: &str| page.matches(&format!("<td>{phase}</td>")).count();
    assert_eq!((row("training"), row("recalibration")), (3, 2));
    assert!(!render_html(&sample::good(1)).contains("What forgetting costs"));
}

#[test]
fn a_redirection_is_shown_layer_by_layer() {
    let report = sample::redirected();
    let page = render_html(&report);
    assert!(
        page.contains(
            "2 names, 1 beginning of names and 0 objects redirected in 21 contexts; 85 names to be kept held"
        )
    );
    assert!(page.contains(">119.33</td>") && page.contains("71.8"));
    let back: ForgetReport = serde_json::from_str(&render_json(&report)).unwrap();
    assert_eq!(back.redirected, report.redirected);
    assert!(!render_html(&sample::good(1)).contains("made up for"));
}

/// What `efface eval` measured against a baseline, with everything that can be in it.
fn evaluated() -> EvalReport {
    let form = |form: &str, role: Role, known: u64, still: u64| {
        let right = if role == Role::Forget { known - still } else { still };
        FormScore {
            form: form.into(),
            role,
            held_out: true,
            probes: known + 3,
            known_probes: known,
            known,
            still,
            right: Some(right as f64 / known as f64),
            interval: wilson(right, known),
        }
    };
    let forms = |still: u64| {
        vec![
            form("statement", Role::Forget, 40, still),
            form("cloze", Role::Forget, 40, 1),
            form("cloze", Role::Retain, 50, 49),
        ]
    };
    let attack = |name: &str, still: u64| AttackResult {
        name: name.into(),
        scores: Scores::of(&forms(still)),
        forms: forms(still),
    };
    let close = Neighbours {
        probes: 30,
        known_probes: 25,
        known_facts: 20,
        still: 24,
        kept: Some(0.96),
        interval: wilson(24, 25),
        ..Neighbours::new(Kinship::OtherSubject)
    };
    EvalReport {
        version: "0.1.0".into(),
        model: "edited".into(),
        scores: Scores::of(&forms(2)),
        forms: forms(2),
        neighbours: vec![close, Neighbours { probes: 4, ..Neighbours::new(Kinship::OtherRelation) }],
        attacks: vec![attack("rounded to 4 bits", 3), attack("sampled 8 times at temperature 1", 20)],
        membership: vec![MembershipResult { score: "Min-20%++".into(), auc: Some(0.512) }],
        ..EvalReport::default()
    }
}

#[test]
fn an_evaluation_is_a_page_with_its_scores_first() {
    let report = evaluated();
    let page = eval::render_html(&report);
    let place = |part: &str| page.find(part).unwrap_or_else(|| panic!("no {part}"));
    let order = [
        "Form diversity: worst 95.0%, mean 96.2%. Accuracy: 97.1%.",
        // The strongest attack: 21 of 80 come back.
        "What stays gone under attack?",
        "73.8%",
        "Right outcomes in every form",
        "What is kept of the neighbours of what was to be forgotten",
        "What attacks bring back",
        "Can members of the training data be told from others?",
        "How this was made",
    ];
    assert!(order.windows(2).all(|pair| place(pair[0]) < place(pair[1])), "{:?}", order.map(place));
    assert!(page.contains("25 known probes") && !page.contains("<script") && !page.contains("src="));
    let text = eval::render_text(&report, None);
    assert!(
        text.contains("same relation, other subject") && text.contains("96.0%") && text.contains("0.512"),
        "{text}"
    );
    let back: EvalReport = serde_json::from_str(&eval::render_json(&report)).unwrap();
    // Figures read back without their last bit; counts and names are exact.
    let exact = |report: &EvalReport| {
        let close = report.neighbours.iter().map(|group| (group.kinship, group.known_probes, group.still));
        let attacks = report.attacks.iter().map(|attack| (attack.name.clone(), attack.forms.len()));
        (close.collect::<Vec<_>>(), attacks.collect::<Vec<_>>())
    };
    assert_eq!(exact(&back), exact(&report));
    // Nothing was measured: still a page, without pictures of nothing.
    let empty = eval::render_html(&EvalReport::default());
    assert!(empty.contains("What the model answers") && !empty.contains("<svg"));
    let hostile = EvalReport { model: "<script>alert(1)</script>".into(), ..evaluated() };
    assert!(!eval::render_html(&hostile).contains("<script"));
}

#[test]
fn a_removal_shows_its_line_of_the_leak_matrix() {
    let mut report = sample::good(4);
    report.forms = evaluated().forms;
    report.neighbours = evaluated().neighbours;
    let page = render_html(&report);
    for part in ["What leaks into other forms", "this removal", "statement: 5.0%", "same subject, other relation"] {
        assert!(page.contains(part), "{part}");
    }
    report.leak = LeakMatrix::of_run("question alone", &report.forms);
    let page = render_html(&report);
    assert!(page.contains("question alone") && !page.contains("this removal"));
}
