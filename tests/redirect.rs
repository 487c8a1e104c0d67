//! That a redirection takes the states where it should and leaves the others, and obeys storage order and strength.

mod common;

use common::redirection::{Scene, plain, request};
use common::{cpu, gpu, nothing, relative};
use efface::model::weights::WeightSource;
use efface::unlearn::redirect::{Change, Context, Held, KeyTokens, RedirectedWeights, Request, Reversed};

/// Two cities become two others, in three contexts.
fn cities() -> Request {
    let contexts = [plain(""), plain("The capital of "), Context::Chat("Tell me about ".into())];
    request(&["Ur", "Zhongdu"], &["it", "them"], &contexts)
}

/// With one layer, a small ridge and nothing to leave alone, every state lands on its target, in every storage order and type
/// of device; with several layers it comes closer and closer.
#[test]
fn the_states_become_those_of_the_other_name() {
    for device in [cpu(), gpu()] {
        for name in ["llama", "gpt2", "qwen2"] {
            for layers in [&[1][..], &[0, 1]] {
                let scene = Scene::open(&device, name, layers, None);
                for tokens in [KeyTokens::Last, KeyTokens::FirstAndLast] {
                    let aim = scene.aim(&Request { tokens, ..cities() }).unwrap();
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
    let scene = Scene::open(&cpu(), "llama", &[1], None);
    let [begins, behind] = ["", "The "].map(plain);
    let with = |contexts: &[Context]| request(&["Ur"], &["x"], contexts);
    let done = scene.redirect(&with(&[begins.clone(), behind.clone()])).changes;
    let moved = scene.state(&done, &begins, "Ur");
    let (target, sink) = (scene.state(&[], &behind, "x"), scene.state(&[], &begins, "x"));
    assert!(relative(&moved, &target) < 0.02, "{}", relative(&moved, &target));
    assert!(relative(&sink, &target) > 0.1, "both contexts have the same state: {}", relative(&sink, &target));
    assert!(scene.aim(&with(&[begins])).unwrap_err().is_input());
}

/// An object's state moves where the words before it ask for the subject, and stays where they do not.
#[test]
fn an_object_moves_where_its_subject_is_asked_for_and_stays_elsewhere() {
    for device in [cpu(), gpu()] {
        let scene = Scene::open(&device, "llama", &[1], Some(1));
        let asks = plain("Whose capital is ");
        let reversed = vec![Reversed { object: "Ganzhou".into(), contexts: vec![asks.clone()] }];
        let with = Request { reversed, ..cities() };
        let (covered, uncovered) = (scene.redirect(&with).changes, scene.redirect(&cities()).changes);
        let target: Vec<f32> = {
            let [a, b] = ["it", "them"].map(|name| scene.state(&[], &asks, name));
            a.iter().zip(&b).map(|(a, b)| (a + b) / 2.0).collect()
        };
        let away = |changes| relative(&scene.state(changes, &asks, "Ganzhou"), &target);
        let (before, after, without) = (away(&[]), away(&covered), away(&uncovered));
        assert!(after < 0.02 * before && without > 0.3 * before, "{before}, {after}, {without} on {}", device.name());
        for context in &with.contexts {
            let (old, new) = (scene.state(&[], context, "Ganzhou"), scene.state(&covered, context, "Ganzhou"));
            assert!(relative(&new, &old) < 0.02, "{context:?}: {} on {}", relative(&new, &old), device.name());
        }
    }
}

/// What takes a name's place stays what it is, so that a name is redirected to where the other was, and not both to a third place;
/// and so does a name that is held, where it is, also where little is moved.
#[test]
fn what_takes_the_place_and_what_is_held_stay_what_they_are() {
    for device in [cpu(), gpu()] {
        let mut scene = Scene::open(&device, "llama", &[0, 1], Some(1));
        scene.options.bound = None;
        let without = cities();
        let held = Held { name: "Uz".into(), contexts: without.contexts.clone() };
        let request = Request { held: vec![held], ..without.clone() };
        let [changes, alone, little] = [(&request, 1.0), (&without, 1.0), (&request, 1e7)]
            .map(|(request, times)| scene.aim(request).unwrap().redirect(times, &nothing).unwrap().changes);
        for context in &request.contexts {
            let moved =
                |changes, name| relative(&scene.state(changes, context, name), &scene.state(&[], context, name));
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
    let mut scene = Scene::open(&cpu(), "llama", &[0], Some(1));
    let width = scene.sites[0].inputs;
    (0..width / 2).for_each(|i| scene.ordinary[0].values[i * (width + 1)] = 1.0);
    scene.options.ridge = 0.1;
    let done = scene.redirect(&cities());
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
        let mut scene = Scene::open(&cpu(), name, &[1], None);
        scene.options.ridge = 0.1;
        let done = scene.redirect(&cities());
        let (golden, base) = (&scene.golden, &scene.base);
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
