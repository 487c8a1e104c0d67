//! Heads chosen by their effect: the pull against PyTorch's float64 figures, on both devices and however it is split; the greedy
//! search against trying the same heads one by one; the edit against its formula; and the command.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use common::{Golden, cpu, gpu, nothing, relative};
use efface::Error;
use efface::checkpoint::Checkpoint;
use efface::device::Device;
use efface::kernels::Accumulate;
use efface::model::Stage;
use efface::model::batch::Tokens;
use efface::model::weights::WeightSource;
use efface::stream::{CheckpointWeights, PassOptions, SampleLoss};
use efface::unlearn::heads::{Head, Options, ScaledHeads, SoftHeads, output_projections, rank, select, variants};
use efface::unlearn::measured::Measured;
use efface::unlearn::store::{MemoryStore, Store};
use tempfile::TempDir;

/// A head by layer and number.
fn head(golden: &Golden, [layer, head]: [usize; 2]) -> Head {
    let stages = golden.model.stages.iter().enumerate().filter(|(_, stage)| matches!(stage, Stage::Attention(_)));
    let stage = stages.map(|(number, _)| number).nth(layer).unwrap();
    Head { layer, stage, head }
}

fn all_heads(golden: &Golden) -> Vec<Head> {
    let mut heads = Vec::new();
    for (number, stage) in golden.model.stages.iter().enumerate() {
        if let Stage::Attention(block) = stage {
            let layer = (number - 1) / 2;
            heads.extend((0..block.heads.heads).map(|head| Head { layer, stage: number, head }));
        }
    }
    heads
}

fn sums(losses: &[SampleLoss]) -> Vec<f64> {
    losses.iter().map(SampleLoss::sum).collect()
}

/// The model itself and two variants of it, all in one pass.
fn pulled(
    golden: &Golden,
    device: &Device,
    case: &serde_json::Value,
    options: PassOptions,
) -> efface::Result<Vec<f64>> {
    let heads = |variant: &serde_json::Value| -> Vec<Head> {
        let places: Vec<[usize; 2]> = serde_json::from_value(variant["heads"].clone()).unwrap();
        places.into_iter().map(|place| head(golden, place)).collect()
    };
    let pass = golden.pass(device, options);
    let n = golden.samples.len();
    let mut found = Vec::new();
    for variant in case["variants"].as_array().unwrap() {
        let knob = variant["knob"].as_f64().unwrap();
        // What is pulled stands between models that are left alone.
        let soft = SoftHeads::new(&golden.model, &[vec![], heads(variant), vec![]], knob, n)?;
        let losses = sums(&pass.losses_under(&soft, &variants(&golden.samples, 3)?, &nothing)?);
        found.extend(losses);
    }
    Ok(found)
}

#[test]
fn pulled_heads_give_the_losses_of_float64() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/heads.json")).unwrap();
    let golden_file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let numbers = |value: &serde_json::Value| serde_json::from_value::<Vec<f64>>(value.clone()).unwrap();
    for device in [cpu(), gpu()] {
        for name in ["llama", "qwen3", "gpt2"] {
            let (golden, case) = (Golden::open(name), &golden_file[name]);
            let own = numbers(&case["own"]);
            let mut want = Vec::new();
            for variant in case["variants"].as_array().unwrap() {
                want.extend([&own[..], &numbers(&variant["losses"]), &own].concat());
            }
            let whole = pulled(&golden, &device, case, PassOptions::default()).unwrap();
            for (i, (got, want)) in whole.iter().zip(&want).enumerate() {
                let error = (got - want).abs() / want.abs();
                assert!(error < 2e-5, "{name} on {}: loss {i} is {got}, not {want}", device.name());
            }
            // The smallest budget, and single samples.
            device.set_memory(1);
            let refused = pulled(&golden, &device, case, PassOptions::default());
            let Err(Error::Budget { needed, .. }) = refused else { panic!("one byte is enough") };
            device.free_scratch();
            device.set_memory(needed);
            device.budget().reset_peak();
            let one = PassOptions { units_per_launch: Some(1), ..PassOptions::default() };
            for options in [PassOptions::default(), one] {
                let small = pulled(&golden, &device, case, options).unwrap();
                let same = |(a, b): (&f64, &f64)| (a - b).abs() <= if device.is_cpu() { 1e-5 * a.abs() } else { 0.0 };
                assert!(whole.iter().zip(&small).all(same), "{name} on {}", device.name());
            }
            assert!(device.budget().peak() <= needed, "{name}: {} of {needed}", device.budget().peak());
            device.set_memory(u64::MAX);
        }
    }
}

/// With every map the identity a token sees nothing but itself: the losses are those of texts of one token.
#[test]
fn pulled_all_the_way_a_token_sees_itself_only() {
    for device in [cpu(), gpu()] {
        for name in ["llama", "qwen2"] {
            let golden = Golden::open(name);
            let pass = golden.pass(&device, PassOptions::default());
            let samples: Vec<Arc<Tokens>> = golden.samples.iter().filter(|s| s.ids.len() < 40).cloned().collect();
            let soft = SoftHeads::new(&golden.model, &[all_heads(&golden)], 1.0, samples.len()).unwrap();
            let pulled = pass.losses_under(&soft, &variants(&samples, 1).unwrap(), &nothing).unwrap();
            for (sample, pulled) in samples.iter().zip(&pulled) {
                let targets = sample.ids.iter().zip(&sample.targets).filter(|(_, target)| **target != u32::MAX);
                let single =
                    |(id, target): (&u32, &u32)| Arc::new(Tokens { ids: vec![*id], targets: vec![*target], number: 0 });
                let singles: Vec<_> = targets.map(single).collect();
                let want: Vec<f32> =
                    pass.losses(&singles, &nothing).unwrap().iter().map(|loss| loss.tokens[0]).collect();
                let error = relative(&pulled.tokens, &want);
                assert!(error < 1e-5, "{name} on {}: {error:.1e} off", device.name());
            }
        }
    }
}

#[test]
fn heads_that_are_not_there_and_knobs_out_of_range_are_refused() {
    let golden = Golden::open("llama");
    let good = head(&golden, [0, 0]);
    let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(golden.checkpoint.clone()));
    for wrong in [Head { head: 77, ..good }, Head { stage: 0, ..good }, Head { stage: 999, ..good }] {
        assert!(SoftHeads::new(&golden.model, &[vec![wrong]], 0.5, 1).unwrap_err().is_input());
        assert!(ScaledHeads::new(base.clone(), &golden.model, &[wrong], 0.5).unwrap_err().is_input());
    }
    for out_of_range in [0.0, -0.5, 1.01, f64::NAN] {
        assert!(SoftHeads::new(&golden.model, &[vec![good]], out_of_range, 1).unwrap_err().is_input());
        assert!(ScaledHeads::new(base.clone(), &golden.model, &[good], out_of_range).unwrap_err().is_input());
    }
    assert!(SoftHeads::new(&golden.model, &[vec![good]], 0.5, 0).unwrap_err().is_input());
}

/// Sums of importance that are known, by element.
fn known(golden: &Golden, value: impl Fn(usize, usize, usize) -> f32) -> Measured {
    let mut store = MemoryStore::new(&golden.model);
    for (id, parameter) in golden.model.parameters.iter().enumerate() {
        let values = (0..parameter.count()).map(|i| value(id, i / parameter.columns(), i % parameter.columns()));
        let part = efface::model::sink::Part {
            parameter: id,
            rows: 0..parameter.rows(),
            columns: parameter.columns(),
            generation: 0,
            correction: false,
        };
        store.save(&part, Accumulate::Square, values.collect()).unwrap();
    }
    Measured::sums(Box::new(store), 1, 1)
}

/// The head whose part of the projection the forget set needs most comes first, in both storage orders, and one that means
/// next to nothing to either set does not; what must not change is not among them.
#[test]
fn heads_are_ranked_by_the_sums_of_their_parts() {
    for name in ["llama", "gpt2"] {
        let golden = Golden::open(name);
        let Stage::Attention(last) = &golden.model.stages[3] else { panic!("{name}") };
        let (id, dim) = (last.output.weight, last.heads.head_dim);
        let of = |row: usize, column: usize| if name == "gpt2" { row / dim } else { column / dim };
        // Of layer 1 head 3 has 9 times as much as the retain set, head 1 half as much, and head 2 a hundred times as much of next
        // to nothing; all others as much.
        let figure = |p: usize, row: usize, column: usize, figures: [f32; 3]| match of(row, column) {
            head @ 1..=3 if p == id => figures[head - 1],
            _ => 1.0,
        };
        let forget = known(&golden, |p, row, column| figure(p, row, column, [0.5, 1e-3, 9.0]));
        let retain = known(&golden, |p, row, column| figure(p, row, column, [1.0, 1e-5, 1.0]));
        let wanted = output_projections(&golden.model, &vec![true; golden.model.parameters.len()]);
        let ranked = rank(&golden.model, (&forget, &retain), &wanted).unwrap();
        let heads = last.heads.heads;
        assert_eq!(ranked.len(), 2 * heads);
        // F_f² / F_r: 81, then 1, then 0.25 and 0.1.
        let last_two = [head(&golden, [1, 1]), head(&golden, [1, 2])];
        assert_eq!((ranked[0], &ranked[2 * heads - 2..]), (head(&golden, [1, 3]), &last_two[..]), "{name}");
        assert_eq!(ranked[1], head(&golden, [0, 0]), "of equals the first");
        let mut allowed = vec![true; golden.model.parameters.len()];
        allowed[id] = false;
        let wanted = output_projections(&golden.model, &allowed);
        assert!(rank(&golden.model, (&forget, &retain), &wanted).unwrap().iter().all(|head| head.layer == 0));
    }
}

/// The search gives what trying the heads one after the other gives, and the same when it is repeated.
#[test]
fn the_greedy_search_is_that_of_single_passes() {
    let golden = Golden::open("qwen3");
    let pass = golden.pass(&cpu(), PassOptions::default());
    let (forget, retain) = golden.samples.split_at(3);
    let candidates = all_heads(&golden);
    let options = Options { knob: 0.6, rounds: 3, per_round: 2, retain_weight: 0.3 };
    let run = || select(&pass, &candidates, (forget, retain), &options, &nothing).unwrap();
    let found = run();
    assert_eq!(found, run());
    let mean = |losses: &[SampleLoss]| losses.iter().map(SampleLoss::mean).sum::<f64>() / losses.len() as f64;
    let losses = |heads: &[Head]| {
        let samples = [forget, retain].concat();
        let soft = SoftHeads::new(&golden.model, &[heads.to_vec()], options.knob, samples.len()).unwrap();
        let losses = pass.losses_under(&soft, &variants(&samples, 1).unwrap(), &nothing).unwrap();
        (mean(&losses[..3]), mean(&losses[3..]))
    };
    let own = losses(&[]);
    let (mut chosen, mut tried): (Vec<Head>, usize) = (Vec::new(), 0);
    for _ in 0..options.rounds {
        let score_of = |heads: &[Head]| {
            let (f, r) = losses(heads);
            (f - own.0) - options.retain_weight * (r - own.1).max(0.0)
        };
        let best = score_of(&chosen);
        let open: Vec<Head> = candidates.iter().copied().filter(|head| !chosen.contains(head)).collect();
        let score = |head: &Head| score_of(&[&chosen[..], &[*head]].concat());
        let mut scores: Vec<(f64, Head)> = open.iter().map(|head| (score(head), *head)).collect();
        for (want, head) in &scores {
            let trial = &found.trials[tried];
            assert!(trial.head == *head && (trial.score - want).abs() < 1e-4, "{trial:?}, not {want}");
            tried += 1;
        }
        scores.retain(|(score, _)| *score > best);
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        scores.truncate(options.per_round);
        if scores.is_empty() {
            break;
        }
        chosen.extend(scores.iter().map(|(_, head)| *head));
    }
    assert_eq!((found.trials.len(), &found.heads), (tried, &chosen));
    assert!(!chosen.is_empty(), "nothing was compared");
    let taken: Vec<Head> = found.trials.iter().filter(|trial| trial.taken).map(|trial| trial.head).collect();
    assert!(taken.len() == chosen.len() && taken.iter().all(|head| chosen.contains(head)));
    // A retain set that weighs more than anything forbids every head that costs something.
    let strict = Options { retain_weight: 1e9, rounds: 1, per_round: 100, ..options };
    let strict = select(&pass, &candidates, (forget, retain), &strict, &nothing).unwrap();
    assert!(strict.trials.iter().all(|trial| !trial.taken || trial.retain <= 1e-9), "{strict:?}");
}

/// W (1 − s) in the chosen heads' columns (rows, for GPT-2), rounded once; everything else keeps its bits.
#[test]
fn only_the_chosen_heads_part_of_the_output_projection_is_scaled() {
    for name in ["llama-bf16", "gpt2", "qwen2-f16"] {
        let golden = Golden::open(name);
        let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(golden.checkpoint.clone()));
        let chosen = [head(&golden, [1, 0]), head(&golden, [1, 2])];
        let Stage::Attention(block) = &golden.model.stages[chosen[0].stage] else { panic!("{name}") };
        let (id, dim) = (block.output.weight, block.heads.head_dim);
        for strength in [0.25, 1.0] {
            let weights = ScaledHeads::new(base.clone(), &golden.model, &chosen, strength).unwrap();
            for (other, parameter) in golden.model.parameters.iter().enumerate() {
                let ((element, old), (_, new)) = (base.tensor(parameter).unwrap(), weights.tensor(parameter).unwrap());
                if other != id {
                    assert!(old[..] == new[..], "{name}: {}", parameter.name);
                    continue;
                }
                let mut values = vec![0.0; parameter.count()];
                element.decode(&old, &mut values).unwrap();
                for (i, value) in values.iter_mut().enumerate() {
                    let (row, column) = (i / parameter.columns(), i % parameter.columns());
                    let head = if name == "gpt2" { row / dim } else { column / dim };
                    if head == 0 || head == 2 {
                        *value = (f64::from(*value) * (1.0 - strength)) as f32;
                    }
                }
                assert!(element.encode(&values)[..] == new[..] && old[..] != new[..], "{name} {strength}");
                let (count, mask) = weights.selected(&golden.model)[id];
                let bits: u32 = mask.unwrap().iter().map(|word| word.count_ones()).sum();
                assert_eq!(
                    (count, bits as usize),
                    (2 * (dim * block.output.outputs) as u64, 2 * dim * block.output.outputs)
                );
            }
        }
    }
}

/// The demo's model, with few of its samples.
struct Demo(TempDir);

impl Demo {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/data");
        for (name, every) in [("forget", 4), ("retain", 40)] {
            let text = fs::read_to_string(data.join(name).with_extension("jsonl")).unwrap();
            let lines: Vec<&str> = text.lines().step_by(every).collect();
            fs::write(root.path().join(format!("{name}.jsonl")), lines.join("\n")).unwrap();
        }
        Demo(root)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn forget(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_efface"))
            .current_dir(self.0.path())
            .args(["forget", "--forget", "forget.jsonl", "--retain", "retain.jsonl", "--likelihood-only", "--eos"])
            .args(["--method", "heads", "--model", concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model")])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

#[test]
fn the_command_changes_output_projections_says_what_it_tried_and_repeats() {
    let demo = Demo::new();
    let mut hashes = Vec::new();
    for out in ["a", "b"] {
        let report = format!("report-{out}");
        let output = demo.forget(&[
            "--device",
            "cpu",
            "--candidates",
            "5",
            "--rounds",
            "2",
            "--heads-per-round",
            "1",
            "--knob",
            "0.8",
            "--retain-weight",
            "0.1",
            "--strength",
            "1",
            "--max-utility-loss",
            "1e9",
            "--out",
            out,
            "--report",
            &report,
        ]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        assert!(
            stderr.contains("trying heads takes about") && stderr.contains("up to 2 rounds of 5 heads"),
            "{stderr}"
        );
        let report: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(demo.path(&report).join("report.json")).unwrap()).unwrap();
        let heads = report["heads"].as_array().unwrap();
        let first = heads.iter().filter(|head| head["round"] == 1).count();
        let taken: Vec<_> = heads.iter().filter(|head| head["taken"] == true).collect();
        assert!(first == 5 && !taken.is_empty() && taken.len() <= 2, "{heads:?}");
        assert_eq!(report["settings"]["knob"], 0.8);
        let old = Checkpoint::open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model"))).unwrap();
        let new = Checkpoint::open(&demo.path(out)).unwrap();
        let mut differing = 0;
        for tensor in old.tensors() {
            let size = tensor.element.map_or(1, efface::Element::size);
            let (a, b) = (old.bytes(tensor), new.bytes(new.tensor(&tensor.name).unwrap()));
            let count = a.chunks(size).zip(b.chunks(size)).filter(|(a, b)| a != b).count() as u64;
            assert!(count == 0 || tensor.name.contains("o_proj"), "{}", tensor.name);
            differing += count;
        }
        let selected = report["method"]["selected"].as_u64().unwrap();
        assert!(differing > 0 && differing <= selected, "{differing} of {selected}");
        hashes.push(report["model"]["sha256_after"].clone());
    }
    assert_eq!(hashes[0], hashes[1]);
    let page = fs::read_to_string(demo.path("report-a").join("report.html")).unwrap();
    assert!(page.contains("pulled towards the identity"));
}

/// The strength is searched under the limit, and repaired without what was scaled; what nobody allows is refused.
#[test]
fn the_command_searches_repairs_and_refuses() {
    let demo = Demo::new();
    let few = ["--device", "cpu", "--candidates", "4", "--rounds", "1", "--retain-weight", "0.05"];
    let more = ["--max-utility-loss", "40%", "--recalibrate", "2", "--batch", "4", "--out", "a", "--report", "r"];
    let output = demo.forget(&[&few[..], &more].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    // So little data may not allow it; then it says so, with all figures.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{stderr}");
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(demo.path("r").join("report.json")).unwrap()).unwrap();
    let points = report["training"].as_array().unwrap();
    assert!(points.iter().any(|point| point["repair"] == true), "{points:?}");
    assert!(points.iter().filter(|point| point["repair"] == false).all(|point| point["scale"].is_number()));
    let forbidding = demo.forget(&["--device", "cpu", "--candidates", "2", "--retain-weight", "1e12", "--out", "b"]);
    let stderr = String::from_utf8_lossy(&forbidding.stderr).into_owned();
    assert!(forbidding.status.code() == Some(1) && stderr.contains("no head helps"), "{stderr}");
    assert!(!demo.path("b").exists());
}

#[test]
fn wrong_calls_name_the_flag() {
    let demo = Demo::new();
    for (arguments, says) in [
        (&["--knob", "0"][..], "--knob is a number above 0 and up to 1"),
        (&["--knob", "1.5"], "--knob is a number"),
        (&["--strength", "2"], "--strength"),
        (&["--retain-weight", "nan"], "--retain-weight is a number from 0"),
        (&["--candidates", "0"], "--candidates"),
        (&["--steps", "3"], "--steps belongs to"),
        (&["--alpha", "3"], "--alpha belongs to"),
        (&["--lambda", "1"], "--lambda belongs to"),
        (&["--against", "full"], "--against belongs to"),
        (&["--granularity", "row"], "--granularity belongs to"),
        (&["--concept", "A"], "--concept belongs to --method redirect"),
        (&["--skip", "*o_proj*"], "which --only and --skip leave none"),
    ] {
        let output = demo.forget(&[&["--device", "cpu", "--out", "out"], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && stderr.contains(says), "{arguments:?}: {stderr}");
        assert!(!demo.path("out").exists());
    }
}
