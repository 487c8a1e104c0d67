//! Redirecting concepts: what is watched is what the model computes, on both devices and however it is split; the covariance
//! and its file; that a change takes the states where it should and obeys storage order and strength; and the command.

mod common;

use std::fs;
use std::process::{Command, Output};
use std::sync::Arc;

use common::bytes::Bytes;
use common::{Golden, cpu, gpu, relative};
use efface::Error;
use efface::device::Device;
use efface::model::batch::Tokens;
use efface::model::weights::WeightSource;
use efface::stream::{CheckpointWeights, Pass, PassOptions};
use efface::unlearn::redirect::{
    Aim, Change, Context, Covariance, Held, KeyTokens, Options, Provenance, RedirectedWeights, Request, Reversed,
    covariance, sites, states, write,
};

fn nothing(_: u64, _: u64) {}

fn all_places(samples: &[Arc<Tokens>]) -> Vec<(u32, u32)> {
    samples.iter().flat_map(|s| (0..s.ids.len() as u32).map(move |place| (s.number, place))).collect()
}

/// Every family: the last layer's keys and states, told apart by what they must satisfy: the state after a feed-forward block
/// differs from the one before by W k (+ bias), which is what the block adds.
#[test]
fn keys_and_states_belong_together() {
    for device in [cpu(), gpu()] {
        for name in ["llama", "gpt2", "qwen3"] {
            let golden = Golden::open(name);
            let pass = golden.pass(&device, PassOptions::default());
            let site = &sites(&golden.model, &[0]).unwrap()[0];
            let places = all_places(&golden.samples);
            let at = |stage: usize, site| states(&pass, &golden.samples, &places, site, stage, &nothing).unwrap();
            let (before, after) = (at(site.stage - 1, None), at(site.stage, Some(site)));
            let parameter = &golden.model.parameters[site.parameter];
            let source = CheckpointWeights::new(golden.checkpoint.clone());
            let (element, bytes) = source.tensor(parameter).unwrap();
            let mut w = vec![0.0; parameter.count()];
            element.decode(&bytes, &mut w).unwrap();
            let bias = golden.checkpoint.tensor(&parameter.name.replace(".weight", ".bias")).map(|tensor| {
                let mut values = vec![0.0; site.outputs];
                tensor.element.unwrap().decode(golden.checkpoint.bytes(tensor), &mut values).unwrap();
                values
            });
            for (i, key) in after.keys.iter().enumerate() {
                let added: Vec<f32> = after.states[i].iter().zip(&before.states[i]).map(|(a, b)| a - b).collect();
                let want: Vec<f32> = (0..site.outputs)
                    .map(|o| {
                        let weight =
                            |j: usize| if name == "gpt2" { w[j * site.outputs + o] } else { w[o * site.inputs + j] };
                        let sum: f64 = key.iter().enumerate().map(|(j, k)| f64::from(*k) * f64::from(weight(j))).sum();
                        (sum + bias.as_ref().map_or(0.0, |bias| f64::from(bias[o]))) as f32
                    })
                    .collect();
                let error = relative(&added, &want);
                assert!(error < 1e-4, "{name} on {}: place {i} is {error:.1e} off", device.name());
            }
        }
    }
}

#[test]
fn only_layers_can_be_watched() {
    let golden = Golden::open("llama");
    let pass = golden.pass(&cpu(), PassOptions::default());
    for stage in [0, golden.model.stages.len() - 1, 1000] {
        let error = states(&pass, &golden.samples, &[], None, stage, &nothing).unwrap_err();
        assert!(error.is_input(), "{stage}: {error}");
    }
    for layers in [&[99][..], &[0, 0], &[]] {
        assert!(sites(&golden.model, layers).unwrap_err().is_input(), "{layers:?}");
    }
}

fn measured(golden: &Golden, device: &Device, options: PassOptions) -> efface::Result<Vec<Covariance>> {
    let sites = sites(&golden.model, &[0, 1])?;
    covariance::measure(&golden.pass(device, options), &sites, &golden.samples, &nothing)
}

/// The mean of kkᵀ over all tokens, from the keys by themselves, in float64.
#[test]
fn a_covariance_is_the_mean_over_all_tokens() {
    for name in ["llama", "gpt2"] {
        let golden = Golden::open(name);
        let sites = sites(&golden.model, &[0, 1]).unwrap();
        let places = all_places(&golden.samples);
        for device in [cpu(), gpu()] {
            let found = measured(&golden, &device, PassOptions::default()).unwrap();
            for (site, found) in sites.iter().zip(found) {
                let pass = golden.pass(&device, PassOptions::default());
                let last = sites.last().unwrap().stage;
                let keys = states(&pass, &golden.samples, &places, Some(site), last, &nothing).unwrap().keys;
                let width = site.inputs;
                let mut want = vec![0.0f64; width * width];
                for key in &keys {
                    for (i, want) in want.iter_mut().enumerate() {
                        *want += f64::from(key[i / width]) * f64::from(key[i % width]);
                    }
                }
                let want: Vec<f32> = want.iter().map(|sum| (sum / keys.len() as f64) as f32).collect();
                let error = relative(&found.values, &want);
                assert!(error < 1e-5, "{name} on {}: {error:.1e} off", device.name());
            }
        }
    }
}

/// Groups of single samples, the smallest budget, and buffers that hold only blocks of a covariance.
#[test]
fn splits_do_not_change_a_covariance() {
    let golden = Golden::open("llama");
    for device in [cpu(), gpu()] {
        let whole = measured(&golden, &device, PassOptions::default()).unwrap();
        device.set_memory(1);
        let Err(Error::Budget { needed, .. }) = measured(&golden, &device, PassOptions::default()) else {
            panic!("a budget of one byte was accepted")
        };
        device.free_scratch();
        device.set_memory(needed);
        device.budget().reset_peak();
        let one = PassOptions { units_per_launch: Some(1), ..PassOptions::default() };
        for options in [PassOptions::default(), one] {
            let small = measured(&golden, &device, options).unwrap();
            for (whole, small) in whole.iter().zip(&small) {
                let error = relative(&small.values, &whole.values);
                assert!(error <= if device.is_cpu() { 1e-5 } else { 0.0 }, "{}: {error:.1e}", device.name());
            }
        }
        assert!(device.budget().peak() <= needed, "{} of {needed} bytes", device.budget().peak());
        device.set_memory(u64::MAX);
    }
}

/// Rows of a covariance that is wider than a buffer come block by block.
#[test]
fn a_covariance_wider_than_a_buffer_comes_in_blocks() {
    let folder = tempfile::tempdir().unwrap();
    common::random_llama(folder.path(), [16, 200, 2, 64], 5);
    let checkpoint = Arc::new(efface::checkpoint::Checkpoint::open(folder.path()).unwrap());
    let model = Arc::new(efface::model::Model::of(&checkpoint).unwrap());
    let ids: Vec<u32> = (0..23).map(|i| i * 7 % 64).collect();
    let samples = vec![Arc::new(Tokens { targets: vec![u32::MAX; ids.len()], ids, number: 0 })];
    let at = |device: Device| {
        let pass = Pass::new(&device, model.clone(), checkpoint.clone(), PassOptions::default()).unwrap();
        covariance::measure(&pass, &sites(&model, &[1]).unwrap(), &samples, &nothing).unwrap().remove(0).values
    };
    // A block of 64 rows of 200 numbers has 51,200 bytes.
    let (whole, blocks) = (at(gpu()), at(gpu().with_binding_limit(52_000)));
    assert!(whole.iter().zip(&blocks).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert!(relative(&at(cpu().with_binding_limit(52_000)), &whole) < 1e-5);
}

#[test]
fn a_file_gives_back_what_was_written_and_refuses_another_model_text_or_layer() {
    let golden = Golden::open("llama");
    let sites01 = sites(&golden.model, &[0, 1]).unwrap();
    let found = measured(&golden, &cpu(), PassOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let of = Provenance { model_sha256: "m".into(), data_sha256: covariance::digest(&golden.samples) };
    covariance::write(&path, &golden.model, (&sites01[..1], &found[..1]), &of, 12).unwrap();
    assert_eq!(covariance::read(&path, &golden.model, &sites01[..1], &of).unwrap(), found[..1]);
    let other = |of: Provenance, sites, says: &str| {
        let error = covariance::read(&path, &golden.model, sites, &of).unwrap_err();
        assert!(error.is_input() && error.to_string().contains(says), "{error}");
    };
    other(Provenance { model_sha256: "n".into(), ..of.clone() }, &sites01[..1], "model_sha256");
    let less = covariance::digest(&golden.samples[1..]);
    other(Provenance { data_sha256: less, ..of.clone() }, &sites01[..1], "data_sha256");
    other(of.clone(), &sites01, "--layers");
    assert!(covariance::write(&path, &golden.model, (&sites01, &found), &of, 12).is_err(), "it exists");
}

fn request(tokens: KeyTokens) -> Request {
    let plain = |text: &str| Context::Plain(text.into());
    let contexts = vec![plain(""), plain("The capital of "), Context::Chat("Tell me about ".into())];
    Request {
        names: vec!["Ur".into(), "Zhongdu".into()],
        instead: vec!["it".into(), "them".into()],
        contexts,
        tokens,
        beginnings: Vec::new(),
        reversed: Vec::new(),
        held: Vec::new(),
    }
}

/// A covariance that holds nothing ordinary.
fn none(width: usize) -> Covariance {
    Covariance { width, values: vec![0.0; width * width] }
}

/// With one layer, a small ridge and nothing to leave alone, every state lands on its target, in every storage order and type
/// of device; with several layers it comes closer and closer.
#[test]
fn the_states_become_those_of_the_other_name() {
    for device in [cpu(), gpu()] {
        for name in ["llama", "gpt2", "qwen2"] {
            let golden = Golden::open(name);
            let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(golden.checkpoint.clone()));
            let encoder = Bytes { vocabulary: golden.model.config.vocabulary as u32, begin: None };
            let options = Options { bound: Some(1.0), ridge: 1e-7, seed: 3, pass: PassOptions::default() };
            for layers in [&[1][..], &[0, 1]] {
                for tokens in [KeyTokens::Last, KeyTokens::FirstAndLast] {
                    let sites = sites(&golden.model, layers).unwrap();
                    let ordinary: Vec<Covariance> = sites.iter().map(|site| none(site.inputs)).collect();
                    let over = (&golden.model, &base);
                    let places = (&sites[..], &ordinary[..]);
                    let aim = Aim::new(&device, over, &encoder, &request(tokens), places, options, &nothing).unwrap();
                    let done = aim.redirect(1.0, &nothing).unwrap();
                    let before = done.layers[0].distance;
                    let share = aim.distance(&done.changes, &nothing).unwrap() / before;
                    println!("{name} {layers:?} {tokens:?}: {before:.3} to {share:.1e} of it");
                    assert!(before > 1e-3 && share < 0.02, "{name} {layers:?} {tokens:?}: {share}");
                }
            }
        }
    }
}

/// A token that does not begin a text never takes over the state of one that does: where nothing stands before the other name, its
/// state is that in the next context; where that is nowhere so, it is said.
#[test]
fn what_does_not_begin_a_text_takes_no_state_of_what_does() {
    let golden = Golden::open("llama");
    let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(golden.checkpoint.clone()));
    let encoder = Bytes { vocabulary: golden.model.config.vocabulary as u32, begin: None };
    let options = Options { bound: Some(1.0), ridge: 1e-7, seed: 3, pass: PassOptions::default() };
    let sites = sites(&golden.model, &[1]).unwrap();
    let ordinary = [none(sites[0].inputs)];
    let [begins, behind] = ["", "The "].map(|text| Context::Plain(text.into()));
    let with = |contexts: Vec<Context>| {
        let request =
            Request { names: vec!["Ur".into()], instead: vec!["x".into()], contexts, ..request(KeyTokens::Last) };
        let places = (&sites[..], &ordinary[..]);
        let aim = Aim::new(&cpu(), (&golden.model, &base), &encoder, &request, places, options, &nothing)?;
        aim.redirect(1.0, &nothing)
    };
    let state = |changes: &[Arc<Change>], before: &Context, name: &str| {
        let weights = RedirectedWeights::new(base.clone(), &golden.model, changes, 1.0).unwrap();
        let pass = Pass::over(&cpu(), golden.model.clone(), Arc::new(weights), options.pass).unwrap();
        let named = write(&encoder, before, name).unwrap();
        let place = (0, named.last() as u32);
        states(&pass, &[named.sample(0)], &[place], None, sites[0].stage, &nothing).unwrap().states.remove(0)
    };
    let done = with(vec![begins.clone(), behind.clone()]).unwrap().changes;
    let (moved, target, sink) = (state(&done, &begins, "Ur"), state(&[], &behind, "x"), state(&[], &begins, "x"));
    assert!(relative(&moved, &target) < 0.02, "{}", relative(&moved, &target));
    assert!(relative(&sink, &target) > 0.1, "both contexts have the same state: {}", relative(&sink, &target));
    assert!(with(vec![begins]).unwrap_err().is_input());
}

/// An object's state moves where the words before it ask for the subject, and stays where they do not.
#[test]
fn an_object_moves_where_its_subject_is_asked_for_and_stays_elsewhere() {
    for device in [cpu(), gpu()] {
        let golden = Golden::open("llama");
        let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(golden.checkpoint.clone()));
        let encoder = Bytes { vocabulary: golden.model.config.vocabulary as u32, begin: Some(1) };
        let options = Options { bound: Some(1.0), ridge: 1e-7, seed: 3, pass: PassOptions::default() };
        let sites = sites(&golden.model, &[1]).unwrap();
        let ordinary = [none(sites[0].inputs)];
        let asks = Context::Plain("Whose capital is ".into());
        let reversed = vec![Reversed { object: "Ganzhou".into(), contexts: vec![asks.clone()] }];
        let with = Request { reversed, ..request(KeyTokens::Last) };
        let state = |changes: &[Arc<Change>], before: &Context, name: &str| {
            let weights = RedirectedWeights::new(base.clone(), &golden.model, changes, 1.0).unwrap();
            let pass = Pass::over(&device, golden.model.clone(), Arc::new(weights), options.pass).unwrap();
            let named = write(&encoder, before, name).unwrap();
            let place = (0, named.last() as u32);
            states(&pass, &[named.sample(0)], &[place], None, sites[0].stage, &nothing).unwrap().states.remove(0)
        };
        let done = |request: &Request| {
            let places = (&sites[..], &ordinary[..]);
            let over = (&golden.model, &base);
            let aim = Aim::new(&device, over, &encoder, request, places, options, &nothing).unwrap();
            aim.redirect(1.0, &nothing).unwrap().changes
        };
        let (covered, uncovered) = (done(&with), done(&request(KeyTokens::Last)));
        let target: Vec<f32> = {
            let [a, b] = ["it", "them"].map(|name| state(&[], &asks, name));
            a.iter().zip(&b).map(|(a, b)| (a + b) / 2.0).collect()
        };
        let before = relative(&state(&[], &asks, "Ganzhou"), &target);
        let after = relative(&state(&covered, &asks, "Ganzhou"), &target);
        let without = relative(&state(&uncovered, &asks, "Ganzhou"), &target);
        assert!(after < 0.02 * before && without > 0.3 * before, "{before}, {after}, {without} on {}", device.name());
        for context in &with.contexts {
            let (old, new) = (state(&[], context, "Ganzhou"), state(&covered, context, "Ganzhou"));
            assert!(relative(&new, &old) < 0.02, "{context:?}: {} on {}", relative(&new, &old), device.name());
        }
    }
}

/// What takes a name's place stays what it is, so that a name is redirected to where the other was, and not both to a third place;
/// and so does a name that is held, where it is, also where little is moved.
#[test]
fn what_takes_the_place_and_what_is_held_stay_what_they_are() {
    for device in [cpu(), gpu()] {
        let golden = Golden::open("llama");
        let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(golden.checkpoint.clone()));
        let encoder = Bytes { vocabulary: golden.model.config.vocabulary as u32, begin: Some(1) };
        let options = Options { bound: None, ridge: 1e-7, seed: 3, pass: PassOptions::default() };
        let sites = sites(&golden.model, &[0, 1]).unwrap();
        let ordinary: Vec<Covariance> = sites.iter().map(|site| none(site.inputs)).collect();
        let without = request(KeyTokens::Last);
        let held = Held { name: "Uz".into(), contexts: without.contexts.clone() };
        let request = Request { held: vec![held], ..without.clone() };
        let [changes, alone, little] = [(&request, 1.0), (&without, 1.0), (&request, 1e7)].map(|(request, times)| {
            let places = (&sites[..], &ordinary[..]);
            let aim = Aim::new(&device, (&golden.model, &base), &encoder, request, places, options, &nothing).unwrap();
            aim.redirect(times, &nothing).unwrap().changes
        });
        let state = |changes: &[Arc<Change>], context: &Context, name: &str| {
            let weights = RedirectedWeights::new(base.clone(), &golden.model, changes, 1.0).unwrap();
            let pass = Pass::over(&device, golden.model.clone(), Arc::new(weights), options.pass).unwrap();
            let named = write(&encoder, context, name).unwrap();
            let place = (0, named.last() as u32);
            states(&pass, &[named.sample(0)], &[place], None, sites[1].stage, &nothing).unwrap().states.remove(0)
        };
        for context in &request.contexts {
            let moved = |changes, name| relative(&state(changes, context, name), &state(&[], context, name));
            for name in ["it", "them", "Uz"] {
                for changes in [&changes, &little] {
                    assert!(moved(changes, name) < 0.02, "{name} in {context:?} on {}", device.name());
                }
            }
            let ur = [&changes, &little].map(|changes| moved(changes, "Ur"));
            assert!(ur[1] > 0.05 && ur[1] < 0.9 * ur[0], "in {context:?}: {ur:?} on {}", device.name());
            assert!(moved(&alone, "Uz") > 0.1, "not held, in {context:?}: {}", moved(&alone, "Uz"));
        }
    }
}

/// What ordinary text uses is left alone: a change maps the dominant directions to nothing.
#[test]
fn ordinary_directions_are_left_alone() {
    let golden = Golden::open("llama");
    let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(golden.checkpoint.clone()));
    let encoder = Bytes { vocabulary: golden.model.config.vocabulary as u32, begin: Some(1) };
    let sites = sites(&golden.model, &[0]).unwrap();
    let width = sites[0].inputs;
    let mut ordinary = none(width);
    (0..width / 2).for_each(|i| ordinary.values[i * (width + 1)] = 1.0);
    let options = Options { bound: Some(1.0), ridge: 0.1, seed: 3, pass: PassOptions::default() };
    let places = (&sites[..], &[ordinary][..]);
    let (over, request) = ((&golden.model, &base), request(KeyTokens::Last));
    let aim = Aim::new(&cpu(), over, &encoder, &request, places, options, &nothing).unwrap();
    let done = aim.redirect(1.0, &nothing).unwrap();
    assert_eq!(done.layers[0].rank, width / 2);
    let factors = &done.changes[0].factors;
    let change = &factors.left * factors.right.transpose();
    assert!((0..width / 2).all(|i| change.col(i).norm_max() < 1e-9));
    assert!((width / 2..width).any(|i| change.col(i).norm_max() > 1e-6));
}

/// W + s ΔW, rounded once; other tensors keep their bits.
#[test]
fn weights_take_a_share_of_the_change() {
    for name in ["llama-bf16", "gpt2"] {
        let golden = Golden::open(name);
        let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(golden.checkpoint.clone()));
        let encoder = Bytes { vocabulary: golden.model.config.vocabulary as u32, begin: None };
        let sites = sites(&golden.model, &[1]).unwrap();
        let options = Options { bound: Some(1.0), ridge: 0.1, seed: 3, pass: PassOptions::default() };
        let ordinary = [none(sites[0].inputs)];
        let places = (&sites[..], &ordinary[..]);
        let (over, request) = ((&golden.model, &base), request(KeyTokens::Last));
        let aim = Aim::new(&cpu(), over, &encoder, &request, places, options, &nothing).unwrap();
        let done = aim.redirect(1.0, &nothing).unwrap();
        let Change { site, factors } = &*done.changes[0];
        let weights = RedirectedWeights::new(base.clone(), &golden.model, &done.changes, 0.25).unwrap();
        for (id, parameter) in golden.model.parameters.iter().enumerate() {
            let ((element, old), (_, new)) = (base.tensor(parameter).unwrap(), weights.tensor(parameter).unwrap());
            if id != site.parameter {
                assert!(old[..] == new[..], "{}", parameter.name);
                continue;
            }
            let mut values = vec![0.0; parameter.count()];
            element.decode(&old, &mut values).unwrap();
            for (i, value) in values.iter_mut().enumerate() {
                let (row, column) = (i / parameter.columns(), i % parameter.columns());
                let (o, j) = if name == "gpt2" { (column, row) } else { (row, column) };
                let keys = factors.left.ncols();
                let change: f64 = (0..keys).map(|n| factors.left[(o, n)] * factors.right[(j, n)]).sum();
                *value = (f64::from(*value) + 0.25 * change) as f32;
            }
            let mut got = vec![0.0; parameter.count()];
            element.decode(&new, &mut got).unwrap();
            let mut want = vec![0.0; parameter.count()];
            element.decode(&element.encode(&values), &mut want).unwrap();
            assert!(relative(&got, &want) < 1e-6 && old[..] != new[..], "{name}");
        }
    }
}

fn forget(arguments: &[&str]) -> Output {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
    let [model, forget, retain] =
        ["model", "data/forget.jsonl", "data/retain.jsonl"].map(|name| format!("{demo}/{name}"));
    Command::new(env!("CARGO_BIN_EXE_efface"))
        .args(["forget", "--device", "cpu", "--model", &model, "--forget", &forget, "--retain", &retain])
        .args(["--likelihood-only", "--method", "redirect"])
        .args(arguments)
        .output()
        .unwrap()
}

/// The command on the demo's people: a patch that goes back, a covariance that is used again, and the same bytes.
#[test]
fn the_command_redirects_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (cache, patch) = (path("c.safetensors"), path("patch"));
    let mut sums = Vec::new();
    for out in ["a", "b"] {
        let out = path(out);
        let mut arguments =
            vec!["--concept", "Cormac Calmere", "--redirect", "Bettina Calton", "--max-utility-loss", "9"];
        arguments.extend(["--covariance", &cache, "--strength", "1", "--layers", "0,1", "--out", &out]);
        if sums.is_empty() {
            arguments.extend(["--patch", &patch]);
        }
        let done = forget(&arguments);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        sums.push(fs::read(format!("{out}/model.safetensors")).unwrap());
    }
    assert!(sums[0] == sums[1], "the cached covariance gives other bytes");
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");
    assert!(fs::read(format!("{demo}/model.safetensors")).unwrap() != sums[0]);
    // Factors, not elements.
    let file = efface::checkpoint::TensorFile::open(std::path::Path::new(&patch)).unwrap();
    assert_eq!(file.metadata()["version"], "2");
    assert!(file.tensors().all(|tensor| !tensor.name.starts_with("new/")));
    assert!(fs::metadata(&patch).unwrap().len() < sums[0].len() as u64 / 8);
    let again = path("again");
    let apply = Command::new(env!("CARGO_BIN_EXE_efface"))
        .args([
            "apply",
            "--model",
            concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model"),
            "--patch",
            &patch,
            "--out",
            &again,
        ])
        .output()
        .unwrap();
    assert!(apply.status.success(), "{}", String::from_utf8_lossy(&apply.stderr));
    assert!(fs::read(format!("{again}/model.safetensors")).unwrap() == sums[0]);
    let back = path("back");
    let revert = Command::new(env!("CARGO_BIN_EXE_efface"))
        .args(["revert", "--model", &path("a"), "--patch", &patch, "--out", &back])
        .output()
        .unwrap();
    assert!(revert.status.success(), "{}", String::from_utf8_lossy(&revert.stderr));
    assert!(
        fs::read(format!("{back}/model.safetensors")).unwrap()
            == fs::read(format!("{demo}/model.safetensors")).unwrap()
    );
}

/// What is repaired afterwards need not be harmless before: all of the change is taken; where the repair does not bring it within
/// the limit, one with a larger ridge that is harmless by itself, as where nothing is repaired.
#[test]
fn a_change_that_is_repaired_is_taken_whole_if_that_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let strength = |name: &str, limit: f64, more: &[&str]| {
        let (out, report) = (path(&format!("{name}-out")), path(name));
        // Without regard to ordinary text, so that it harms.
        let own = ["--concept", "Cormac Calmere", "--concept", "Bettina Calton", "--redirect", "Delia Windstead"];
        let own = [&own[..], &["--layers", "0,1", "--bound", "1e6", "--ridge", "1e-4"]].concat();
        let limit = limit.to_string();
        let rest = ["--max-utility-loss", &limit, "--out", &out, "--report", &report];
        let done = forget(&[&own[..], &rest, more].concat());
        let text = fs::read_to_string(format!("{report}/report.json"))
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr)));
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let trials = report["training"].as_array().unwrap().iter().filter(|trial| trial["repair"] == false);
        let of = |name: &str| trials.clone().map(|trial| trial[name].as_f64().unwrap()).collect::<Vec<_>>();
        let loss = |name: &str| report["guard"][name].as_f64().unwrap();
        let rise = (loss("loss_after") - loss("loss_before")) / loss("loss_before").max(1.0);
        let ridges: Vec<Option<f64>> = trials.clone().map(|trial| trial["ridge"].as_f64()).collect();
        (ridges, of("loss_rise")[0], rise)
    };
    let repair = ["--recalibrate", "24"];
    let (ridges, whole, mended) = strength("whole", 1e6, &repair);
    println!("the loss rises by {whole} before the repair and by {mended} after it");
    assert!(ridges == [None] && mended < whole);
    let between = (whole + mended.max(0.0)) / 2.0;
    assert_eq!(strength("between", between, &repair).0, [None]);
    let searched = |(ridges, _, rise): (Vec<Option<f64>>, f64, f64)| {
        println!("ridges {ridges:?}, the loss rises by {rise}");
        assert!(ridges.len() > 1 && ridges[0] == Some(1e-4), "{ridges:?}");
        assert!(ridges[1..].iter().all(|ridge| ridge.is_some_and(|ridge| ridge > 1e-4)), "{ridges:?}");
        rise
    };
    assert!(searched(strength("alone", between, &[])) <= between);
    searched(strength("too little", mended.max(0.0) / 4.0, &repair));
}

#[test]
fn what_is_wrong_with_a_call_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    let empty = folder.path().join("empty.txt").display().to_string();
    fs::write(&empty, "\n \n").unwrap();
    let with = |more: &[&str]| forget(&[&["--out", &out], more].concat());
    for (arguments, says) in [
        (&[][..], "--concept"),
        (&["--concept", " "], "empty"),
        (&["--concept", "A", "--layers", "77"], "no layer 77"),
        (&["--concept", "A", "--layers", "1,1"], "named once"),
        (&["--concept", "A", "--bound", "0"], "--bound"),
        (&["--concept", "A", "--ridge", "nan"], "--ridge"),
        (&["--concept", "A", "--strength", "2"], "--strength"),
        (&["--concept", "A", "--alpha", "2"], "--alpha"),
        (&["--concept", "A", "--text", &empty], "empty.txt"),
        (&["--concept", "A", "--reversed", "on"], "--forget has no facts"),
        (&["--concept", "A", "--layers", "0", "--skip", "*down_proj*"], "must not change"),
    ] {
        let failed = with(arguments);
        let stderr = String::from_utf8_lossy(&failed.stderr);
        assert!(failed.status.code() == Some(2) && stderr.contains(says), "{arguments:?}: {stderr}");
        assert!(!folder.path().join("out").exists());
    }
}

/// What belongs to several subjects, what a retained fact speaks of, and what no wording reverses is left as it is, and said.
#[test]
fn objects_that_cannot_be_reversed_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let fact = |subject: &str, relation: &str, object: &str| {
        serde_json::json!({ "subject": subject, "relation": relation, "object": object }).to_string()
    };
    let person = "Cormac Calmere";
    fs::write(
        path("forget.jsonl"),
        [
            fact(person, "birthplace", "Foxmoor"),
            fact(person, "job", "painter"),
            fact("Bettina Calton", "job", "painter"),
            fact(person, "plays", "trumpet"),
            fact(person, "eats", "pierogi"),
        ]
        .join("\n"),
    )
    .unwrap();
    let retain = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/data/retain.jsonl")).unwrap();
    let mut retain: Vec<String> = retain.lines().take(30).map(String::from).collect();
    retain.push(fact("Delia Windstead", "eats", "pierogi"));
    retain.push(fact("trumpet", "job", "teacher"));
    fs::write(path("retain.jsonl"), retain.join("\n")).unwrap();
    let table = serde_json::json!({
        "birthplace": ["[X] was born in [Y]", "In [Y] was born [X]", "At [Y] was born [X]"],
        "job": ["[X] works as a [Y]", "The [Y] is [X]"], "plays": ["[X] plays the [Y]", "The [Y] of [X]"],
        "eats": ["[X] loves to eat [Y]"],
    });
    fs::write(path("relations.json"), table.to_string()).unwrap();
    let run = |out: &str, more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_efface"))
            .args(["forget", "--device", "cpu", "--model", concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model"), "-v"])
            .args(["--forget", &path("forget.jsonl"), "--retain", &path("retain.jsonl"), "--method", "redirect"])
            .args(["--relations", &path("relations.json"), "--likelihood-only", "--max-utility-loss", "1e9"])
            .args(["--strength", "1", "--redirect", "Delia Windstead", "--out", &path(out), "--json"])
            .args(more)
            .output()
            .unwrap()
    };
    let (on, off) = (run("on", &[]), run("off", &["--reversed", "off"]));
    let stderr = String::from_utf8_lossy(&on.stderr).into_owned();
    assert!(on.status.success() && off.status.success(), "{stderr}");
    // What takes the names' place stays anyway; of the facts to be kept, the other one's subject is held.
    assert!(stderr.contains("1 object no longer lead") && stderr.contains("back; 1 name held"), "{stderr}");
    let report: serde_json::Value = serde_json::from_slice(&on.stdout).unwrap();
    let warnings = report["warnings"].to_string();
    for says in ["belongs to several subjects", "a fact to be kept speaks of the object"] {
        assert!(warnings.contains(says), "{says}: {warnings}");
    }
    let weights = |out: &str| fs::read(folder.path().join(out).join("model.safetensors")).unwrap();
    assert!(weights("on") != weights("off"));
}
