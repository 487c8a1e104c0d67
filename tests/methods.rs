//! The methods that train: their parts against formulas in double precision, and as a whole through the program, on the demo's
//! model with few samples.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use common::{Golden, cpu, directory};
use efface::checkpoint::Checkpoint;
use efface::kernels::Accumulate;
use efface::model::weights::WeightSource;
use efface::model::{Model, Parameter};
use efface::stream::{CheckpointWeights, Pass, PassOptions, Unit};
use efface::unlearn::edit::Comparison;
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::importance::ImportanceSink;
use efface::unlearn::methods::{ScaledWeights, Score, gradient_scores, top_share};
use efface::unlearn::selection::{Against, Granularity};
use efface::unlearn::store::{MemoryStore, Store};
use efface::unlearn::train::{Adamw, Trainable, Training};
use tempfile::TempDir;

fn source(golden: &Golden) -> Arc<CheckpointWeights> {
    Arc::new(CheckpointWeights::new(golden.checkpoint.clone()))
}

fn values(weights: &dyn WeightSource, parameter: &Parameter) -> Vec<f32> {
    let (element, bytes) = weights.tensor(parameter).unwrap();
    let mut values = vec![0.0; parameter.count()];
    element.decode(&bytes, &mut values).unwrap();
    values
}

/// Sums over units, of all parameters.
fn sums(golden: &Golden, units: &[Unit], accumulate: Accumulate) -> Vec<Vec<f32>> {
    let mut store = MemoryStore::new(&golden.model);
    let mut sink = ImportanceSink::new(&golden.model, vec![accumulate], &mut store);
    golden.pass(&cpu(), PassOptions::default()).gradients(units, &mut sink, &|_, _| {}).unwrap();
    (0..golden.model.parameters.len()).map(|id| store.all(id, accumulate).unwrap()).collect()
}

fn per_sample(golden: &Golden, range: std::ops::Range<usize>) -> Vec<Unit> {
    Estimator::Sample.units(&golden.samples[range], Loss::Mean, BatchWeight::Samples)
}

/// One step of AdamW from zero moments moves by the gradient over its own size: the projection shows in the signs, and, with a
/// large epsilon, in the lengths.
#[test]
fn a_guarded_step_takes_out_what_the_guarded_loss_gains() {
    let golden = Golden::open("llama");
    let learned = per_sample(&golden, 2..5);
    for (guarded, along_expected) in [(per_sample(&golden, 3..6), true), (per_sample(&golden, 0..1), false)] {
        let (g, f) = (sums(&golden, &learned, Accumulate::Sum), sums(&golden, &guarded, Accumulate::Sum));
        // A layer's matrices only, every second element of them.
        let mask: Vec<Trainable> = golden
            .model
            .parameters
            .iter()
            .map(|p| match p.name.contains("layers.0.mlp") {
                true => Trainable::Bits((0..p.count().div_ceil(32)).map(|word| bits(p.count(), word)).collect()),
                false => Trainable::None,
            })
            .collect();
        let chosen = |id: usize| (0..g[id].len()).filter(move |i| i % 2 == 0);
        let dot = |a: &[Vec<f32>], b: &[Vec<f32>]| {
            let of = |id: usize| chosen(id).map(|i| f64::from(a[id][i]) * f64::from(b[id][i])).sum::<f64>();
            (0..g.len()).filter(|id| mask[*id] != Trainable::None).map(of).sum::<f64>()
        };
        let along = dot(&g, &f);
        // The other case is made of the first: a gradient that points against the guarded one is left alone.
        let taken = along.max(0.0) / dot(&f, &f);
        if along_expected {
            assert!(taken > 0.0, "nothing is projected: {along}");
        }
        let (rate, epsilon) = (0.5, 10.0);
        let adamw = Adamw { beta1: 0.5, beta2: 0.5, epsilon, weight_decay: 0.0, clip: None };
        let base = source(&golden);
        let mut training =
            Training::new(&cpu(), &golden.model, base.clone(), &mask, adamw, PassOptions::default()).unwrap();
        training.guarded_step(&learned, &guarded, rate).unwrap();
        let mut moved = 0;
        for (id, parameter) in golden.model.parameters.iter().enumerate() {
            let (old, new) = (values(&*base, parameter), values(&*training.weights(), parameter));
            for i in 0..old.len() {
                if mask[id] == Trainable::None || i % 2 == 1 {
                    assert_eq!(old[i].to_bits(), new[i].to_bits(), "{} [{i}]", parameter.name);
                    continue;
                }
                let gradient = f64::from(g[id][i]) - taken * f64::from(f[id][i]);
                let want = f64::from(old[i]) - f64::from(rate) * gradient / (gradient.abs() + f64::from(epsilon));
                assert!((f64::from(new[i]) - want).abs() <= 1e-6, "{} [{i}]: {}, not {want}", parameter.name, new[i]);
                moved += usize::from(new[i] != old[i]);
            }
        }
        assert!(moved > 100, "{moved} moved");
    }
}

/// Even bits.
fn bits(count: usize, word: usize) -> u32 {
    (0..32).filter(|bit| bit % 2 == 0 && 32 * word + bit < count).fold(0, |bits, bit| bits | 1 << bit)
}

#[test]
fn a_score_selects_its_own_top_share() {
    let golden = Golden::open("qwen2");
    let parameters = &golden.model.parameters;
    let (forget, retain) = (per_sample(&golden, 0..3), per_sample(&golden, 3..7));
    let wanted: Vec<bool> = parameters.iter().map(|p| !p.name.contains("embed")).collect();
    let base = source(&golden);
    let pass = golden.pass(&cpu(), PassOptions::default());
    let (f, r) = (sums(&golden, &forget, Accumulate::Sum), sums(&golden, &retain, Accumulate::Sum));
    for (score, curvature) in [
        (Score::Gradient, None),
        (Score::Wagle { curvature: Some(0.25) }, Some(0.25)),
        (Score::Wagle { curvature: None }, None),
    ] {
        let stores = || Ok(Box::new(MemoryStore::new(&golden.model)) as Box<dyn Store + Send + Sync>);
        let sets = (&forget[..], &retain[..]);
        let measured = gradient_scores(&pass, &*base, score, sets, &wanted, &stores, &|_, _| {}).unwrap();
        let comparison =
            Comparison::new(golden.model.clone(), measured, Against::Retain, &wanted, Granularity::Element).unwrap();
        let mask = top_share(&cpu(), &comparison, 0.1, &|_, _| {}).unwrap();
        let curvature = curvature.unwrap_or_else(|| {
            let squares = sums(&golden, &retain, Accumulate::Square);
            let all = squares.iter().zip(&wanted).filter(|(_, wanted)| **wanted).flat_map(|(s, _)| s);
            let (sum, count) = all.fold((0.0, 0), |(sum, n), s| (sum + f64::from(*s), n + 1));
            sum / (4 * count) as f64
        });
        let mut scored: Vec<(f64, bool)> = Vec::new();
        for (id, parameter) in parameters.iter().enumerate() {
            let Trainable::Bits(bits) = &mask.trainable[id] else {
                assert_eq!(mask.selected[id], 0);
                continue;
            };
            assert!(wanted[id]);
            for (i, weight) in values(&*base, parameter).into_iter().enumerate() {
                let gradient = f64::from(f[id][i]) / 3.0;
                let value = match score {
                    Score::Gradient => gradient.abs(),
                    Score::Wagle { .. } => {
                        ((f64::from(weight) - f64::from(r[id][i]) / 4.0 / curvature) * gradient).abs()
                    }
                };
                scored.push((value, bits[i / 32] >> (i % 32) & 1 == 1));
            }
        }
        let selected = scored.iter().filter(|(_, selected)| *selected).count();
        let all: usize = parameters.iter().zip(&wanted).filter(|(_, wanted)| **wanted).map(|(p, _)| p.count()).sum();
        assert_eq!(selected as u64, mask.selected.iter().sum::<u64>());
        assert!(selected * 10 <= all && selected * 11 >= all, "{score:?}: {selected} of {all}");
        let least = scored.iter().filter(|(_, s)| *s).map(|(v, _)| *v).fold(f64::INFINITY, f64::min);
        let most = scored.iter().filter(|(_, s)| !*s).map(|(v, _)| *v).fold(0.0, f64::max);
        assert!(most <= least * (1.0 + 1e-5), "{score:?}: {most} is left out, {least} is in");
    }
}

#[test]
fn a_task_vector_is_taken_back() {
    let golden = Golden::open("llama-bf16");
    let mask: Vec<Trainable> = (0..golden.model.parameters.len())
        .map(|id| if id % 2 == 0 { Trainable::All } else { Trainable::None })
        .collect();
    let base: Arc<dyn WeightSource> = source(&golden);
    let mut training =
        Training::new(&cpu(), &golden.model, base.clone(), &mask, Adamw::default(), PassOptions::default()).unwrap();
    training.step(&per_sample(&golden, 0..2), 0.02).unwrap();
    let learned = training.weights();
    let back = ScaledWeights::new(base.clone(), learned.clone(), 1.5);
    let mut moved = 0;
    for (id, parameter) in golden.model.parameters.iter().enumerate() {
        let (old, new, got) = (values(&*base, parameter), values(&*learned, parameter), values(&back, parameter));
        for i in 0..old.len() {
            let want = f64::from(old[i]) - 1.5 * (f64::from(new[i]) - f64::from(old[i]));
            assert!((f64::from(got[i]) - want).abs() <= 2f64.powi(-8) * want.abs(), "{} [{i}]", parameter.name);
            assert!(id % 2 == 0 || got[i].to_bits() == old[i].to_bits());
            moved += usize::from(got[i] != old[i]);
        }
    }
    assert!(moved > 1000);
    // What was learned lowers the loss; its opposite raises it.
    let loss = |weights: Arc<dyn WeightSource>| {
        let pass = Pass::over(&cpu(), golden.model.clone(), weights, PassOptions::default()).unwrap();
        pass.losses(&golden.samples[..2], &|_, _| {}).unwrap().iter().map(|loss| loss.mean()).sum::<f64>()
    };
    let (before, learned, back) = (loss(base), loss(learned), loss(Arc::new(back)));
    assert!(learned < before && before < back, "{learned}, {before}, {back}");
}

/// The demo's model, with few of its samples.
struct Demo {
    root: TempDir,
}

impl Demo {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/data");
        for (name, every) in [("forget", 8), ("retain", 40)] {
            let text = fs::read_to_string(data.join(name).with_extension("jsonl")).unwrap();
            let lines: Vec<&str> = text.lines().step_by(every).collect();
            fs::write(root.path().join(format!("{name}.jsonl")), lines.join("\n")).unwrap();
        }
        Demo { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn forget(&self, model: &Path, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_efface"))
            .current_dir(self.root.path())
            .args(["forget", "--forget", "forget.jsonl", "--retain", "retain.jsonl", "--likelihood-only", "--model"])
            .arg(model)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn report(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(self.path(name).join("report.json")).unwrap()).unwrap()
    }
}

fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model")
}

/// How many elements of the checkpoints differ, by tensor.
fn differing(old: &Path, new: &Path) -> Vec<(String, u64)> {
    let (old, new) = (Checkpoint::open(old).unwrap(), Checkpoint::open(new).unwrap());
    let of = |tensor: &efface::checkpoint::TensorInfo| {
        let (a, b) = (old.bytes(tensor), new.bytes(new.tensor(&tensor.name).unwrap()));
        let size = tensor.element.map_or(1, efface::Element::size);
        (tensor.name.clone(), a.chunks(size).zip(b.chunks(size)).filter(|(a, b)| a != b).count() as u64)
    };
    old.tensors().map(of).collect()
}

#[test]
fn every_method_runs_changes_only_what_it_selects_and_repeats() {
    let demo = Demo::new();
    let model = demo_model();
    for (number, method) in [
        &["graddiff"][..],
        &["npo", "--mask", "all", "--recalibrate", "2", "--retain-loss", "kl"],
        &["simnpo", "--mask", "gradient"],
        &["refusal", "--refusal", "know", "--granularity", "row"],
        &["salun", "--mask-share", "2%"],
        &["wagle", "--mask-share", "0.05", "--objective", "graddiff", "--mu", "0.1"],
        &["task-vector", "--strength", "2", "--mask", "wagle", "--mask-share", "3%"],
    ]
    .iter()
    .enumerate()
    {
        let fixed = ["--device", "cpu", "--eos", "--only", "*layers.1*", "--steps", "3", "--batch", "9", "--method"];
        let outputs = |n: usize| [format!("edited{number}{n}"), format!("report{number}{n}")];
        let mut hashes = Vec::new();
        for n in 0..2 {
            let [edited, report] = outputs(n);
            let out = ["--learning-rate", "3e-3", "--max-utility-loss", "1e9", "--out", &edited, "--report", &report];
            let output = demo.forget(&model, &[&fixed[..], method, &out].concat());
            assert!(output.status.success(), "{method:?}: {}", String::from_utf8_lossy(&output.stderr));
            let report = demo.report(&report);
            let selected = report["method"]["selected"].as_u64().unwrap();
            let changes = differing(&model, &demo.path(&edited));
            let changed: u64 = changes.iter().map(|(_, count)| count).sum();
            assert!(changes.iter().all(|(name, count)| *count == 0 || name.contains("layers.1")), "{method:?}");
            assert!(changed > 0 && changed <= selected, "{method:?}: {changed} of {selected}");
            let repairs = report["training"].as_array().unwrap().iter().filter(|point| point["repair"] == true).count();
            assert_eq!(repairs > 0, method.contains(&"--recalibrate"), "{method:?}");
            hashes.push(report["model"]["sha256_after"].clone());
        }
        assert_eq!(hashes[0], hashes[1], "{method:?}: a second run wrote other bytes");
    }
}

#[test]
fn the_strength_is_searched_judged_and_told() {
    let demo = Demo::new();
    for (method, scaled) in [("simnpo", false), ("task-vector", true)] {
        let (edited, report) = (format!("edited-{method}"), format!("report-{method}"));
        let given = ["--device", "cpu", "--eos", "--batch", "4", "--max-utility-loss", "30%", "--method", method];
        let output =
            demo.forget(&demo_model(), &[&given[..], &["--auto", "--out", &edited, "--report", &report]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        // So little data may not allow it; then it says so, with all figures.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{stderr}");
        assert!(stderr.contains("takes at most"), "{stderr}");
        let report = demo.report(&report);
        let points = report["training"].as_array().unwrap();
        assert!(points.len() >= 2 && points.iter().all(|p| p["scale"].is_number() == scaled), "{method}: {points:?}");
        let taken: Vec<_> = points.iter().filter(|point| point["taken"] == true).collect();
        assert_eq!(taken.len(), 1, "{method}");
        // What was taken is what the guard judged, within the limit if any point is.
        let number = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::INFINITY);
        let within = points.iter().any(|point| number(&point["loss_rise"]) <= 0.3);
        assert_eq!(number(&taken[0]["loss_rise"]) <= 0.3, within, "{method}");
        let guard = &report["guard"];
        let (before, after) = (number(&guard["loss_before"]), number(&guard["loss_after"]));
        assert!(((after - before) / before.max(1.0) - number(&taken[0]["loss_rise"])).abs() < 1e-6, "{method}");
        assert_eq!(output.status.success(), demo.path(&edited).exists(), "{method}");
    }
}

#[test]
fn the_smallest_budget_trains_the_same_bytes_on_the_gpu() {
    const BUDGET: &str = "the smallest that works here is ";
    let demo = Demo::new();
    let lines = fs::read_to_string(directory("llama").join("data.jsonl")).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    fs::write(demo.path("forget.jsonl"), [lines[0], lines[3]].join("\n")).unwrap();
    fs::write(demo.path("retain.jsonl"), [lines[1], lines[5], lines[6]].join("\n")).unwrap();
    let model = directory("llama").join("checkpoint");
    let run = |out: &str, more: &[&str]| {
        let given = ["--device", "gpu", "--method", "npo", "--steps", "2", "--max-utility-loss", "1e9", "--out", out];
        demo.forget(&model, &[&given[..], &["--learning-rate", "1e-2", "--recalibrate", "1"], more].concat())
    };
    let whole = run("whole", &[]);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let refused = String::from_utf8(run("none", &["--memory", "1"]).stderr).unwrap();
    let budget: String = refused.split(BUDGET).nth(1).unwrap().chars().take_while(|c| !",.;)\n".contains(*c)).collect();
    let digits: String = budget.chars().filter(char::is_ascii_digit).collect();
    let small = run("small", &["--memory", &digits]);
    assert!(small.status.success(), "{budget}: {}", String::from_utf8_lossy(&small.stderr));
    let bytes = |out: &str| fs::read(demo.path(out).join("model.safetensors")).unwrap();
    assert!(bytes("whole") == bytes("small"));
    assert!(bytes("whole") != fs::read(model.join("model.safetensors")).unwrap());
}

#[test]
fn wrong_calls_name_the_flag() {
    let demo = Demo::new();
    for (arguments, needle) in [
        (&["--method", "npo", "--alpha", "3"][..], "--alpha belongs to --method ssd"),
        (&["--method", "npo", "--lambda", "1"], "--lambda belongs to"),
        (&["--steps", "4"], "--steps belongs to"),
        (&["--method", "ssd", "--auto"], "--auto belongs to"),
        (&["--method", "npo", "--auto", "--learning-rate", "1e-3"], "--learning-rate"),
        (&["--method", "graddiff", "--beta", "0.2"], "--beta belongs to"),
        (&["--method", "wagle", "--objective", "graddiff", "--beta", "0.2"], "--beta belongs to"),
        (&["--method", "npo", "--delta", "0.2"], "--delta belongs to --method simnpo"),
        (&["--method", "npo", "--beta", "0"], "--beta is a number above 0"),
        (&["--method", "npo", "--beta", "-1"], "--beta is a number above 0"),
        (&["--method", "npo", "--mask-share", "0"], "--mask-share is a number above 0"),
        (&["--method", "npo", "--mask-share", "101%"], "--mask-share is a number above 0"),
        (&["--method", "npo", "--mask", "all", "--mask-share", "1%"], "--mask-share belongs to"),
        (&["--method", "salun", "--mask", "ratio"], "--mask belongs to"),
        (&["--method", "npo", "--mu", "1"], "--mu belongs to --method wagle"),
        (&["--method", "npo", "--strength", "1"], "--strength belongs to --method task-vector"),
        (&["--method", "task-vector", "--retain-weight", "1"], "--retain-weight belongs to"),
        (&["--method", "task-vector", "--retain-loss", "kl"], "--retain-loss belongs to"),
        (&["--method", "npo", "--retain-loss", "kl", "--only", "*embed*"], "leave no tensor"),
        (&["--method", "npo", "--refusal", "no"], "--refusal belongs to --method refusal"),
        (&["--method", "npo", "--learning-rate", "0"], "--learning-rate is a number above 0"),
        (&["--method", "npo", "--retain-weight", "-1"], "--retain-weight is a number from 0"),
        (&["--method", "npo", "--recalibrate", "--recalibrate-rate", "nan"], "--recalibrate-rate is a number above 0"),
        (&["--recalibrate-rate", "1e-4"], "--recalibrate"),
        (&["--method", "salun", "--retain-fisher", "F.safetensors"], "--retain-fisher belongs to"),
        (&["--method", "npo", "--steps", "0"], "--steps"),
        (&["--redirect", "it"], "--redirect belongs to --method redirect, not to dampen"),
        (&["--method", "npo", "--bound", "2"], "--bound belongs to --method redirect, not to npo"),
        (&["--method", "ssd", "--ridge", "0.05"], "--ridge belongs to --method redirect"),
        (&["--method", "salun", "--key-tokens", "last"], "--key-tokens belongs to --method redirect"),
        (&["--method", "npo", "--layers", "1"], "--layers belongs to --method redirect"),
        (&["--reversed", "off"], "--reversed belongs to --method redirect"),
        (&["--method", "npo", "--knob", "0.5"], "--knob belongs to --method heads, not to npo"),
        (&["--candidates", "5"], "--candidates belongs to --method heads"),
        (&["--rounds", "5"], "--rounds belongs to --method heads"),
        (&["--heads-per-round", "5"], "--heads-per-round belongs to --method heads"),
        (&["--method", "redirect", "--concept", "A", "--against", "retain"], "--against belongs to --method dampen"),
        (&["--method", "redirect", "--concept", "A", "--granularity", "element"], "--granularity belongs to"),
        (&["--method", "redirect", "--concept", "A", "--combine", "min"], "--combine belongs to"),
        (&["--method", "redirect", "--concept", "A", "--kind", "abs"], "--kind belongs to"),
        (&["--method", "redirect", "--concept", "A", "--estimator", "batch:4"], "--estimator belongs to"),
        (&["--method", "redirect", "--concept", "A", "--precision", "emulated"], "--precision belongs to"),
        (&["--method", "redirect", "--concept", "A", "--mask", "all"], "--mask belongs to"),
        (&["--method", "npo", "--mask", "all", "--labels", "model"], "--labels belongs to"),
        (&["--method", "npo", "--mask", "all", "--loss", "sum"], "--loss belongs to"),
        (&["--method", "wagle", "--combine", "mean"], "--combine belongs to"),
        (&["--method", "salun", "--against", "full"], "--against belongs to"),
        (&["--loss", "logits", "--labels", "model"], "--labels model draws labels"),
        (&["--generate", "20"], "--generate"),
    ] {
        let output = demo.forget(&demo_model(), &[&["--device", "cpu", "--out", "edited"], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(needle), "{arguments:?}: {stderr}");
        assert!(!demo.path("edited").exists());
    }
    // What cannot be refused, and what has no tokenizer to refuse with.
    fs::write(demo.path("forget.jsonl"), "{\"text\": \"Cormac Calmere was born in Foxmoor\"}\n").unwrap();
    let given = ["--device", "cpu", "--out", "edited", "--method", "refusal", "--steps", "1"];
    let output = demo.forget(&demo_model(), &given);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && stderr.contains("asks nothing that could be refused"), "{stderr}");
    assert!(Model::of(&Checkpoint::open(&demo_model()).unwrap()).is_ok());
}

/// Where only some of the forget set asks nothing, refusals are trained for the rest and the others are counted.
#[test]
fn samples_that_ask_nothing_are_counted_where_refusals_are_trained() {
    let demo = Demo::new();
    let mut lines = fs::read_to_string(demo.path("forget.jsonl")).unwrap();
    lines.push_str(
        "\n{\"text\": \"Cormac Calmere is a painter\"}\n{\"text\": \"Cormac Calmere was born in Foxmoor\"}\n",
    );
    fs::write(demo.path("forget.jsonl"), lines).unwrap();
    let given = ["--device", "cpu", "--method", "refusal", "--refusal", "know", "--steps", "1", "--batch", "9"];
    let out = ["--max-utility-loss", "1e9", "--out", "edited", "--report", "report"];
    let output = demo.forget(&demo_model(), &[&given[..], &out].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = demo.report("report");
    let warnings: Vec<&str> = report["warnings"].as_array().unwrap().iter().filter_map(|w| w.as_str()).collect();
    let counted = |warning: &&&str| warning.contains("2 times") && warning.contains("asks nothing");
    assert_eq!(warnings.iter().filter(counted).count(), 1, "{warnings:?}");
}

/// Forms combined, from the program's arguments to the report.
#[test]
fn forms_are_combined_as_asked_and_their_overlap_is_in_the_report() {
    let demo = Demo::new();
    // Every fact in two forms of its own.
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/data/forget.jsonl");
    let lines = fs::read_to_string(data).unwrap();
    let two = |line: &&str| line.contains("\"statement\"") || line.contains("\"question\"");
    let lines: Vec<&str> = lines.lines().filter(two).step_by(4).collect();
    fs::write(demo.path("forget.jsonl"), lines.join("\n")).unwrap();
    let mut hashes = Vec::new();
    for combine in ["mean", "geomean", "min", "quorum:2"] {
        let name = combine.replace(':', "-");
        let (edited, report) = (format!("edited-{name}"), format!("report-{name}"));
        let given =
            ["--device", "cpu", "--combine", combine, "--method", "ssd", "--alpha", "3", "--max-utility-loss", "1e9"];
        let output = demo.forget(&demo_model(), &[&given[..], &["--out", &edited, "--report", &report]].concat());
        assert!(output.status.success(), "{combine}: {}", String::from_utf8_lossy(&output.stderr));
        let report = demo.report(&report);
        assert_eq!(report["settings"]["combine"], combine);
        let overlap = &report["form_overlap"];
        assert_eq!(overlap["forms"], serde_json::json!(["statement", "question"]), "{combine}: {overlap}");
        hashes.push(report["model"]["sha256_after"].as_str().unwrap().to_string());
    }
    // The least of two importances is the one that a quorum of two asks for; the other two masks differ.
    assert_eq!(hashes[2], hashes[3]);
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2], "{hashes:?}");
}

/// Label-free SSD: what is dampened is what the importance files say, mean |g| of the squared norm of the logits.
#[test]
fn an_importance_without_labels_dampens_by_its_ratio() {
    let demo = Demo::new();
    let model = demo_model();
    let measure = |data: &str, out: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_efface"))
            .current_dir(demo.root.path())
            .args([
                "fisher", "--device", "cpu", "--eos", "--kind", "abs", "--loss", "logits", "--data", data, "--out", out,
            ])
            .arg("--model")
            .arg(&model)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        efface::checkpoint::TensorFile::open(&demo.path(out)).unwrap()
    };
    let (forget, retain) = (measure("forget.jsonl", "f.safetensors"), measure("retain.jsonl", "r.safetensors"));
    assert_eq!(forget.metadata()["loss"], "logits");
    let given =
        ["--device", "cpu", "--eos", "--method", "ssd", "--alpha", "3", "--max-utility-loss", "1e9", "--out", "edited"];
    let kind = ["--kind", "abs", "--loss", "logits", "--retain-fisher", "r.safetensors", "--only", "*mlp.up_proj*"];
    let output = demo.forget(&model, &[&given[..], &kind].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (old, new) = (Checkpoint::open(&model).unwrap(), Checkpoint::open(&demo.path("edited")).unwrap());
    let mut changed = 0;
    for tensor in old.tensors() {
        let read = |checkpoint: &Checkpoint| {
            let mut values = vec![0.0; tensor.elements()];
            let bytes = checkpoint.bytes(checkpoint.tensor(&tensor.name).unwrap());
            tensor.element.unwrap().decode(bytes, &mut values).unwrap();
            values
        };
        let (before, after) = (read(&old), read(&new));
        let (f, r) = (common::numbers(&forget, &tensor.name), common::numbers(&retain, &tensor.name));
        for i in 0..before.len() {
            let ratio = f64::from(f[i]) / f64::from(r[i]);
            // What lies at the threshold may fall on either side.
            if (ratio / 3.0 - 1.0).abs() < 1e-4 {
                continue;
            }
            let dampened = tensor.name.contains("mlp.up_proj") && ratio > 3.0;
            let want = if dampened { f64::from(before[i]) * (1.0 / ratio).min(1.0) } else { f64::from(before[i]) };
            // Half a unit in the last place of the stored type, which has 8 bits or more.
            let rounding = if tensor.element == Some(efface::Element::F32) { 1e-5 } else { 1.0 / 256.0 };
            assert!((f64::from(after[i]) - want).abs() <= rounding * want.abs() + 1e-7, "{} {i}", tensor.name);
            changed += usize::from(before[i] != after[i]);
        }
    }
    assert!(changed > 0, "nothing was dampened");
    // An importance of the other kind is not compared with it.
    let other = ["--device", "cpu", "--eos", "--method", "ssd", "--retain-fisher", "r.safetensors", "--out", "other"];
    let output = demo.forget(&model, &[&other[..], &["--loss", "logits"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && stderr.contains("kind fisher"), "{stderr}");
}

/// Without a retain set the model writes one, the same with the same seed, and nothing in it speaks of what is to be forgotten.
#[test]
fn without_a_retain_set_the_model_writes_one() {
    let demo = Demo::new();
    let lines = fs::read_to_string(demo.path("forget.jsonl")).unwrap();
    // Two records of one person: their answers are few enough for other texts to be free of them.
    fs::write(demo.path("few.jsonl"), lines.lines().take(2).collect::<Vec<_>>().join("\n")).unwrap();
    // A model that writes any word after any other: the demo's own knows how to end a sentence only.
    let model = demo.path("random");
    fs::create_dir(&model).unwrap();
    common::random_llama(&model, [16, 40, 2, 299], 3);
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(demo_model().join(file), model.join(file)).unwrap();
    }
    let run = |out: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_efface"))
            .current_dir(demo.root.path())
            .args(["forget", "--device", "cpu", "--forget", "few.jsonl", "--likelihood-only", "--method", "npo"])
            .args(["--steps", "2", "--batch", "4", "--recalibrate", "2", "--max-utility-loss", "1e9", "--model"])
            .arg(&model)
            .args(["--generate", "60", "--generate-tokens", "16", "--out", out, "--report", &format!("report-{out}")])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        demo.report(&format!("report-{out}"))
    };
    let (a, b, c) = (run("a", &[]), run("b", &[]), run("c", &["--seed", "5"]));
    assert_eq!(a["model"]["sha256_after"], b["model"]["sha256_after"]);
    assert_eq!(a["settings"]["retain_sha256"], b["settings"]["retain_sha256"]);
    assert_ne!(a["settings"]["retain_sha256"], c["settings"]["retain_sha256"]);
    let warnings = a["warnings"].as_array().unwrap();
    let said = |needle: &str| warnings.iter().any(|warning| warning.as_str().unwrap().contains(needle));
    assert!(said("No retain set was given") && said("of 60 texts"), "{warnings:?}");
    assert_eq!(a["settings"]["generate"], 60);
    let probes = a["probes"].as_array().unwrap();
    assert!(probes.iter().any(|probe| probe["form"] == "own text"), "{probes:?}");
    assert!(a["training"].as_array().unwrap().iter().any(|point| point["repair"] == true));
}
