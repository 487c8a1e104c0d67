//! Greedy decoding against float64 (tests/golden), alone and beside other prompts, under every memory budget.

mod common;

use std::sync::Arc;

use common::{FAMILIES, GOLDEN, Golden, cpu, gpu};
use efface::Error;
use efface::device::{Choice, open};
use efface::eval::{Continuation, EvalOptions, Prompt, evaluate, greedy, sampled};
use efface::model::batch::Tokens;
use efface::stream::{Pass, PassOptions};

/// The prompt and its continuation by the reference.
fn expected(golden: &Golden) -> (Vec<u32>, Vec<u32>) {
    let text = std::fs::read_to_string(golden.directory.join("expected.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = |key: &str| serde_json::from_value(value["greedy"][key].clone()).unwrap();
    (ids("prompt"), ids("continuation"))
}

/// Prompts of lengths 1 to 40 (some longer than a tile of the attention), with limits of their own.
fn others(golden: &Golden) -> Vec<(Vec<u32>, usize)> {
    let vocabulary = golden.model.config.vocabulary as u32;
    let mut state = 0x9e37_79b9_u32;
    let mut draw = move |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let lengths = [1, 40, 2, 33, 17, 5, 64];
    lengths.into_iter().map(|n| ((0..n).map(|_| draw(vocabulary)).collect(), 1 + draw(11) as usize)).collect()
}

fn decode(pass: &Pass, prompts: &[(Vec<u32>, usize)]) -> efface::Result<Vec<Continuation>> {
    let prompts: Vec<_> = prompts.iter().map(|(ids, max_new)| Prompt { ids, max_new: *max_new }).collect();
    greedy(pass, &prompts, &[], &|_, _| {})
}

#[test]
fn every_checkpoint_continues_as_the_reference() {
    for device in [cpu(), gpu()] {
        for name in GOLDEN {
            let golden = Golden::open(name);
            let pass = golden.pass(&device, PassOptions::default());
            let (prompt, continuation) = expected(&golden);
            let alone = decode(&pass, &[(prompt.clone(), continuation.len())]).unwrap();
            assert_eq!(alone[0].ids, continuation, "{name} on {}", device.name());
            let mut together = others(&golden);
            together.insert(3, (prompt, continuation.len()));
            let answers = decode(&pass, &together).unwrap();
            assert_eq!(answers[3].ids, continuation, "{name} beside others on {}", device.name());
            for (answer, (_, limit)) in answers.iter().zip(&together) {
                assert_eq!((answer.ids.len(), answer.ended), (*limit, false));
            }
        }
    }
}

#[test]
fn the_budget_and_the_company_do_not_matter() {
    for device in [cpu(), gpu()] {
        for name in FAMILIES {
            let golden = Golden::open(name);
            let pass = golden.pass(&device, PassOptions::default());
            let (prompt, continuation) = expected(&golden);
            let mut prompts = others(&golden);
            prompts.push((prompt, continuation.len()));
            device.set_memory(u64::MAX);
            let whole = decode(&pass, &prompts).unwrap();
            let alone: Vec<_> =
                prompts.iter().map(|one| decode(&pass, std::slice::from_ref(one)).unwrap()[0].clone()).collect();
            assert_eq!(whole, alone, "{name} on {}", device.name());
            device.set_memory(1);
            let error = decode(&pass, &prompts).unwrap_err();
            let Error::Budget { needed, .. } = error else { panic!("a budget of one byte: {error}") };
            for budget in [needed, needed + needed / 3, 3 * needed] {
                device.free_scratch();
                device.set_memory(budget);
                device.budget().reset_peak();
                assert_eq!(decode(&pass, &prompts).unwrap(), whole, "{name} under {budget} bytes on {}", device.name());
                let peak = device.budget().peak();
                assert!(peak <= budget, "{name}: {peak} bytes in use under a budget of {budget}");
            }
            device.set_memory(needed - 1);
            assert!(decode(&pass, &prompts).is_err(), "{name}: less than the smallest was accepted");
            device.set_memory(u64::MAX);
        }
    }
}

#[test]
fn a_low_binding_limit_does_not_matter() {
    for name in FAMILIES {
        let golden = Golden::open(name);
        let prompts = others(&golden);
        let whole = decode(&golden.pass(&gpu(), PassOptions::default()), &prompts).unwrap();
        let limited = open(Choice::Gpu, None).unwrap().with_binding_limit(80_000);
        assert_eq!(decode(&golden.pass(&limited, PassOptions::default()), &prompts).unwrap(), whole, "{name}");
        // Short prompts leave room for a limit under which even the head's matrix is cut.
        let short: Vec<_> = prompts.into_iter().filter(|(ids, _)| ids.len() <= 5).collect();
        let whole = decode(&golden.pass(&gpu(), PassOptions::default()), &short).unwrap();
        let limited = open(Choice::Gpu, None).unwrap().with_binding_limit(10_000);
        assert_eq!(decode(&golden.pass(&limited, PassOptions::default()), &short).unwrap(), whole, "{name} in slices");
    }
}

/// Another way to the likeliest next token: of all samples that go on with one token, that with the least loss.
fn likeliest(pass: &Pass, golden: &Golden, ids: &[u32]) -> Vec<f64> {
    let candidate = |id: u32| {
        let all: Vec<u32> = ids.iter().copied().chain([id]).collect();
        let labels: Vec<i32> = (0..all.len()).map(|t| if t == ids.len() { id as i32 } else { -100 }).collect();
        Arc::new(Tokens::new(&all, &labels, id))
    };
    let samples: Vec<_> = (0..golden.model.config.vocabulary as u32).map(candidate).collect();
    pass.losses(&samples, &|_, _| {}).unwrap().iter().map(|loss| loss.sum()).collect()
}

#[test]
fn every_token_is_the_one_of_least_loss() {
    for name in FAMILIES {
        let golden = Golden::open(name);
        let pass = golden.pass(&cpu(), PassOptions::default());
        let (mut ids, _) = others(&golden).swap_remove(4);
        let answer = decode(&pass, &[(ids.clone(), 6)]).unwrap().remove(0);
        assert_eq!(answer.ids.len(), 6);
        for token in answer.ids {
            let losses = likeliest(&pass, &golden, &ids);
            let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
            assert!(losses[token as usize] <= least + 1e-5, "{name}: {token} after {} tokens", ids.len());
            ids.push(token);
        }
    }
}

#[test]
fn an_end_token_ends_one_answer_and_not_the_others() {
    for device in [cpu(), gpu()] {
        let golden = Golden::open("llama");
        let pass = golden.pass(&device, PassOptions::default());
        let (ids, continuation) = expected(&golden);
        let mut prompts = others(&golden);
        prompts.truncate(3);
        prompts.insert(0, (ids, 8));
        let free = decode(&pass, &prompts).unwrap();
        let eos = [continuation[3]];
        let asked: Vec<_> = prompts.iter().map(|(ids, max_new)| Prompt { ids, max_new: *max_new }).collect();
        let ended = greedy(&pass, &asked, &eos, &|_, _| {}).unwrap();
        assert_eq!(ended[0], Continuation { ids: continuation[..3].to_vec(), ended: true });
        for (free, ended) in free.iter().zip(&ended) {
            let until = free.ids.iter().position(|id| *id == eos[0]);
            assert_eq!(ended.ids, free.ids[..until.unwrap_or(free.ids.len())]);
            assert_eq!(ended.ended, until.is_some());
        }
    }
}

#[test]
fn the_context_is_never_exceeded() {
    let golden = Golden::open("gpt2");
    let (context, device) = (golden.model.config.context, cpu());
    let pass = golden.pass(&device, PassOptions::default());
    let prompt = |length: usize| (vec![7; length], 5);
    let answers = decode(&pass, &[prompt(context), prompt(context - 2), prompt(context - 9)]).unwrap();
    assert_eq!(answers.iter().map(|a| a.ids.len()).collect::<Vec<_>>(), [0, 2, 5]);
    for wrong in [prompt(context + 1), prompt(0), (vec![1 << 20], 5)] {
        assert!(decode(&pass, &[prompt(3), wrong]).unwrap_err().is_input());
    }
}

#[test]
fn an_evaluation_tells_apart_what_is_known() {
    let golden = Golden::open("qwen2");
    let (prompt, continuation) = expected(&golden);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probes.jsonl");
    // The first probe's gold answer is what the model says; the second's differs in its last token.
    let record = |gold: &[u32]| {
        let ids: Vec<u32> = prompt.iter().chain(gold).copied().collect();
        let labels: Vec<i64> =
            (0..).zip(&ids).map(|(t, id)| if t < prompt.len() { -100 } else { i64::from(*id) }).collect();
        serde_json::json!({ "input_ids": ids, "labels": labels, "form": "ids" }).to_string()
    };
    let mut wrong = continuation[..4].to_vec();
    wrong[3] = (wrong[3] + 1) % 160;
    std::fs::write(&file, [record(&continuation[..4]), record(&wrong)].join("\n")).unwrap();
    let options = efface::data::ReadOptions::new(golden.model.config.vocabulary, golden.model.config.context);
    let probes = efface::data::read_probes(&[&file], None, &options).unwrap();
    for device in [cpu(), gpu()] {
        let pass = golden.pass(&device, PassOptions::default());
        let results = evaluate(&pass, &probes.probes, None, &EvalOptions::default(), &|_, _| {}).unwrap();
        assert_eq!(results.len(), 1);
        let [right, wrong] = &results[0].outcomes[..] else { panic!("two probes") };
        assert!(right.known() && !wrong.known() && right.probability > wrong.probability);
        assert_eq!(results[0].exact_match(), Some(0.5));
        // The probability is that of the losses, whose own parity is tested elsewhere.
        let samples: Vec<_> =
            probes.probes.iter().map(|p| p.sample()).map(|s| Arc::new(Tokens::new(&s.ids, &s.labels, 0))).collect();
        let losses = pass.losses(&samples, &|_, _| {}).unwrap();
        let by_hand = (-losses[0].tokens.iter().map(|l| f64::from(*l)).sum::<f64>() / 4.0).exp();
        assert!((right.probability - by_hand).abs() < 1e-9);
        let options = EvalOptions { generate: false, ..EvalOptions::default() };
        let quick = evaluate(&pass, &probes.probes, None, &options, &|_, _| {}).unwrap();
        assert_eq!((quick[0].exact_match(), quick[0].probability()), (None, results[0].probability()));
    }
}

/// Drawn tokens follow the model's distribution: their frequencies against the probabilities of a pass. And a draw depends on seed
/// and place alone.
#[test]
fn drawn_tokens_have_the_models_frequencies_and_depend_on_nothing_else() {
    const DRAWS: usize = 600;
    for device in [cpu(), gpu()] {
        let golden = Golden::open("llama");
        let pass = golden.pass(&device, PassOptions::default());
        let vocabulary = golden.model.config.vocabulary;
        let ids = vec![3u32, 1, 4];
        let draws = if device.is_cpu() { DRAWS } else { DRAWS / 4 };
        let prompts: Vec<Prompt<'_>> = (0..draws).map(|_| Prompt { ids: &ids, max_new: 1 }).collect();
        let drawn = sampled(&pass, &prompts, &[], 11, &|_, _| {}).unwrap();
        let targets = |target: usize| vec![u32::MAX, u32::MAX, target as u32];
        let asked: Vec<Arc<Tokens>> =
            (0..vocabulary).map(|v| Arc::new(Tokens { ids: ids.clone(), targets: targets(v), number: 0 })).collect();
        let losses = pass.losses(&asked, &|_, _| {}).unwrap();
        let mut chi = 0.0;
        for (token, loss) in losses.iter().enumerate() {
            let expected = draws as f64 * (-loss.sum()).exp();
            let count = drawn.iter().filter(|text| text.ids == [token as u32]).count() as f64;
            chi += (count - expected).powi(2) / expected;
        }
        // χ² of V − 1 degrees of freedom: mean V − 1, variance 2 (V − 1); five deviations.
        let freedom = vocabulary as f64 - 1.0;
        assert!((chi - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(), "{chi} for {freedom} on {}", device.name());

        let prompts = others(&golden);
        let at = |seed: u64, which: &[(Vec<u32>, usize)]| {
            let prompts: Vec<_> = which.iter().map(|(ids, max_new)| Prompt { ids, max_new: *max_new }).collect();
            sampled(&pass, &prompts, &[], seed, &|_, _| {}).unwrap()
        };
        let whole = at(7, &prompts);
        assert_eq!(at(7, &prompts[..4]), whole[..4], "company matters on {}", device.name());
        assert_ne!(at(8, &prompts), whole);
        device.set_memory(1);
        let refused = sampled(&pass, &[Prompt { ids: &prompts[1].0, max_new: 9 }], &[], 7, &|_, _| {});
        assert!(matches!(refused, Err(Error::Budget { .. })));
        device.set_memory(u64::MAX);
    }
}
