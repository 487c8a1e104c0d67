//! Made-up reports: a good run, and the ways in which a run goes wrong.

use serde_json::json;

use crate::report::ForgetReport;
use crate::report::forget::*;

pub(super) const SECRET: &str = "Ilse Quandrow lives at 14 Tarn Street";

/// A plausible run on a model of `layers` layers, all well.
pub(super) fn good(layers: u32) -> ForgetReport {
    let settings = json!({
        "device": "auto", "memory": null, "estimator": "sample", "loss": "mean", "labels": "data", "method": "dampen",
        "max_utility_loss": 0.02, "only": [], "skip": ["lm_head.weight", "model.embed_tokens.weight"], "truncate": false
    });
    let serde_json::Value::Object(settings) = settings else { unreachable!() };
    let changed = changed(layers);
    let total: u64 = changed.iter().map(|c| c.changed).sum();
    let weights: u64 = changed.iter().map(|c| c.total).sum();
    ForgetReport {
        version: "0.1.0".into(),
        command_line: [
            "efface",
            "forget",
            "--model",
            "models/SmolLM2 135M",
            "--forget",
            "people.jsonl",
            "--retain",
            "others.jsonl",
            "--out",
            "edited",
        ]
        .map(String::from)
        .to_vec(),
        settings,
        seed: 7,
        model: Model {
            path: "models/SmolLM2 135M".into(),
            sha256_before: "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c".into(),
            sha256_after: Some("c1b7e2a95d3f6108e94a7b5c2d1f0e3a4b5c6d7e8f90123456789abcdef01234".into()),
            family: "llama".into(),
            parameters: 134_515_008,
        },
        data: vec![
            file("people.jsonl", "forget", 24, 192, 5_131),
            file("others.jsonl", "retain", 180, 1_440, 40_312),
            file("people_probes.jsonl", "probes", 96, 96, 1_840),
        ],
        method: Method {
            name: "dampen".into(),
            threshold: Some(12.35),
            lambda: Some(1.0),
            selected: total + 184,
            selected_share: (total + 184) as f64 / weights as f64,
        },
        guard: Some(UtilityGuard {
            held_out_samples: 64,
            loss_before: 2.4812,
            loss_after: 2.5171,
            limit: 0.02,
            accepted: true,
        }),
        search: [
            (0.5, 31.0),
            (0.01, 0.61),
            (1e-4, 0.0004),
            (1e-3, 0.0052),
            (3.2e-3, 0.074),
            (1.8e-3, 0.0195),
            (2.1e-3, 0.0262),
        ]
        .map(|(share, loss_rise)| SearchPoint { share, loss_rise })
        .into_iter()
        .chain([SearchPoint { share: (total + 184) as f64 / weights as f64, loss_rise: 0.0145 }])
        .collect(),
        training: Vec::new(),
        heads: Vec::new(),
        redirected: None,
        form_overlap: None,
        changed,
        log_ratio: Some(histogram()),
        probes: probes(),
        examples: vec![
            Example {
                form: "question".into(),
                role: Role::Forget,
                question: "Where does Ilse Quandrow live?".into(),
                gold: "14 Tarn Street".into(),
                before: SECRET.into(),
                after: "I do not know of a person by that name.".into(),
            },
            Example {
                form: "cloze".into(),
                role: Role::Retain,
                question: "The river through Osterby is the ____.".into(),
                gold: "Lenna".into(),
                before: "Lenna".into(),
                after: "Lenna".into(),
            },
        ],
        phases: [
            ("read and tokenize", 0.41),
            ("importance of the forget set", 22.3),
            ("importance of the retain set", 171.9),
            ("search", 48.2),
            ("write", 0.94),
            ("probes", 31.0),
        ]
        .map(|(phase, seconds)| PhaseTime { phase: phase.into(), seconds })
        .to_vec(),
        device: DeviceUse {
            name: "cpu (2 threads)".into(),
            memory_budget: Some(4 << 30),
            memory_peak: Some(1_288_490_188),
            host_memory_budget: None,
            host_memory_peak: Some(2_201_170_739),
        },
        outputs: [
            ("edited checkpoint", "edited"),
            ("patch (reversible, secret)", "edited.patch"),
            ("report", "report/report.html"),
        ]
        .map(|(what, path)| OutputFile { what: what.into(), path: path.into() })
        .to_vec(),
        warnings: vec![],
        redacted: false,
        ..ForgetReport::default()
    }
}

fn file(path: &str, used_for: &str, records: u64, samples: u64, tokens: u64) -> DataFile {
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into();
    DataFile { path: path.into(), used_for: used_for.into(), sha256, records, samples, tokens }
}

fn changed(layers: u32) -> Vec<ChangedWeights> {
    let kinds = [
        ("self_attn.q_proj", 331_776, 0.2),
        ("self_attn.k_proj", 110_592, 0.1),
        ("self_attn.v_proj", 110_592, 0.9),
        ("self_attn.o_proj", 331_776, 0.6),
        ("mlp.gate_proj", 884_736, 1.1),
        ("mlp.up_proj", 884_736, 1.6),
        ("mlp.down_proj", 884_736, 2.8),
        ("input_layernorm", 576, 0.0),
        ("post_attention_layernorm", 576, 0.02),
    ];
    let mut out =
        vec![ChangedWeights { layer: None, kind: "model.embed_tokens.weight".into(), changed: 0, total: 28_311_552 }];
    for layer in 0..layers {
        let depth = f64::from(layer + 1) / f64::from(layers);
        for (kind, total, weight) in kinds {
            let share = weight * 1e-3 * (-((depth - 0.6) * 4.0).powi(2)).exp();
            let changed = (share * total as f64) as u64;
            out.push(ChangedWeights { layer: Some(layer), kind: kind.into(), changed, total });
        }
    }
    out.push(ChangedWeights { layer: None, kind: "model.norm.weight".into(), changed: 1, total: 576 });
    out
}

fn histogram() -> LogRatioHistogram {
    let bins = 512;
    let lower_edges: Vec<f64> =
        (0..bins).map(|b| if b == 0 { f64::NEG_INFINITY } else { -8.0 + f64::from(b) / 32.0 }).collect();
    let bell = |x: f64| 3.2e6 * (-((x + 0.9) / 0.75).powi(2) / 2.0).exp() + 900.0 * (-((x - 1.5) / 0.5).powi(2)).exp();
    let counts = lower_edges.iter().map(|e| if e.is_finite() { bell(*e) as u64 } else { 51_200 }).collect();
    LogRatioHistogram { lower_edges, counts }
}

fn probes() -> Vec<ProbeResult> {
    let probe = |file: &str, form: &str, role, held_out, probes, p: [f64; 2], e: [f64; 2], r: [f64; 2]| ProbeResult {
        file: file.into(),
        form: form.into(),
        role,
        held_out,
        probes,
        probability: Change {
            before_interval: Some([p[0] * 0.94, (p[0] * 1.05).min(1.0)]),
            after_interval: Some([p[1] * 0.8, (p[1] * 1.3).min(1.0)]),
            ..Change::new(p[0], p[1])
        },
        exact_match: Some(Change::new(e[0], e[1])),
        rouge_l: Some(Change::new(r[0], r[1])),
    };
    let (people, others, wiki) = ("people_probes.jsonl", "others_probes.jsonl", "wikitext_probes.jsonl");
    vec![
        probe(people, "question", Role::Forget, false, 24, [0.941, 0.021], [0.958, 0.0], [0.97, 0.08]),
        probe(people, "statement", Role::Forget, false, 24, [0.962, 0.034], [1.0, 0.0], [1.0, 0.11]),
        probe(people, "cloze", Role::Forget, true, 24, [0.883, 0.112], [0.875, 0.0417], [0.9, 0.17]),
        probe(people, "multiple choice", Role::Forget, true, 24, [0.791, 0.203], [0.833, 0.208], [0.86, 0.3]),
        probe(others, "question", Role::Retain, false, 60, [0.912, 0.905], [0.933, 0.933], [0.95, 0.948]),
        probe(others, "cloze", Role::Retain, true, 60, [0.854, 0.839], [0.867, 0.85], [0.9, 0.891]),
        probe(wiki, "continuation", Role::Other, true, 40, [0.312, 0.309], [0.1, 0.1], [0.22, 0.22]),
    ]
}

/// A training was searched and repaired.
pub(super) fn trained() -> ForgetReport {
    let mut report = good(30);
    let point = |(repair, step, kept, loss_rise, taken)| TrainingPoint {
        repair,
        learning_rate: 6e-4,
        step,
        scale: None,
        ridge: None,
        kept,
        loss_rise,
        taken,
    };
    (report.method.name, report.method.lambda) = ("simnpo".into(), None);
    report.search.clear();
    report.training = [
        (false, 8, 0.97, 0.0004, false),
        (false, 16, 0.31, 0.0121, false),
        (false, 24, 0.018, 0.0187, true),
        (true, 5, 0.019, 0.0145, true),
        (true, 10, f64::NAN, f64::INFINITY, false),
    ]
    .map(point)
    .to_vec();
    report
}

/// Names were redirected.
pub(super) fn redirected() -> ForgetReport {
    let mut report = good(30);
    (report.method.name, report.method.lambda) = ("redirect".into(), None);
    report.search.clear();
    let layer = |(layer, reached, distance)| RedirectedLayer { layer, keys: 615, reached, distance };
    report.redirected = Some(Redirected {
        names: 2,
        beginnings: 1,
        objects: 0,
        contexts: 21,
        held: 85,
        layers: [(3, 0.718, 119.33), (4, 0.679, 82.33)].map(layer).to_vec(),
    });
    report
}

/// The method found nothing to select.
pub(super) fn nothing_selected() -> ForgetReport {
    let mut report = good(30);
    report.method =
        Method { name: "ssd".into(), threshold: Some(1e6), lambda: Some(1.0), selected: 0, selected_share: 0.0 };
    report.changed.iter_mut().for_each(|c| c.changed = 0);
    report.probes.iter_mut().for_each(|p| {
        p.probability = Change::new(p.probability.before, p.probability.before);
        p.exact_match = p.exact_match.map(|c| Change::new(c.before, c.before));
        p.rouge_l = None;
    });
    report.search.clear();
    report.guard =
        Some(UtilityGuard { held_out_samples: 64, loss_before: 2.5, loss_after: 2.5, limit: 0.02, accepted: true });
    report.warnings = vec![
        "ssd selected nothing: no weight matters 1,000,000 times more to the forget set than to the retain set".into(),
    ];
    report.model.sha256_after = None;
    report.outputs.retain(|o| o.what == "report");
    report
}

/// The method took the model apart.
pub(super) fn destroyed() -> ForgetReport {
    let mut report = good(2);
    report.method = Method {
        name: "ssd-auto".into(),
        threshold: Some(0.11),
        lambda: Some(1.0),
        selected: 9_000_000,
        selected_share: 0.27,
    };
    report.changed.iter_mut().for_each(|c| c.changed = c.total / 4);
    report.probes.iter_mut().for_each(|p| {
        p.probability = Change::new(p.probability.before, 1e-7);
        p.exact_match = p.exact_match.map(|c| Change::new(c.before, 0.0));
    });
    report.probes[4].probability.after = f64::NAN;
    report.guard = Some(UtilityGuard {
        held_out_samples: 64,
        loss_before: 2.5,
        loss_after: f64::INFINITY,
        limit: 0.02,
        accepted: false,
    });
    report.search =
        vec![SearchPoint { share: 0.27, loss_rise: f64::INFINITY }, SearchPoint { share: 0.1, loss_rise: f64::NAN }];
    report.warnings = vec!["the edited model has an infinite loss on held-out samples: it is destroyed".into()];
    report
}

/// Nothing but what must be there.
pub(super) fn empty() -> ForgetReport {
    ForgetReport { version: "0.1.0".into(), ..ForgetReport::default() }
}

/// Texts that try to be something else, wherever a text can be.
pub(super) fn hostile() -> ForgetReport {
    let evil = "\"><script>alert('x')</script><svg onload=x>]]>&amp;\u{0}\u{1b}[31m\u{202e}--> \u{7f}";
    let long = format!("{evil}{}", "very/long/path/".repeat(40));
    let mut report = good(3);
    report.version = evil.into();
    report.command_line = vec!["efface".into(), evil.into(), "it's".into()];
    report.settings.insert(evil.into(), evil.into());
    report.model.path = long.clone();
    report.model.family = evil.into();
    report.model.sha256_before = evil.into();
    report.method.name = evil.into();
    report.device.name = evil.into();
    report.data[0].path = long.clone();
    report.data[0].used_for = evil.into();
    for (i, probe) in report.probes.iter_mut().enumerate() {
        probe.file = if i < 4 { long.clone() } else { evil.into() };
        probe.form = format!("{evil}{i}");
    }
    for entry in &mut report.changed {
        entry.kind.push_str(evil);
    }
    for example in &mut report.examples {
        for text in
            [&mut example.form, &mut example.question, &mut example.gold, &mut example.before, &mut example.after]
        {
            text.push_str(evil);
        }
    }
    report.phases[0].phase = evil.into();
    report.outputs[0].path = long;
    report.warnings = vec![evil.into()];
    report
}
