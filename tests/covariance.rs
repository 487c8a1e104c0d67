//! What redirecting measures: keys and states are what the model computes, on both devices and however it is split; the covariance of
//! ordinary text and its file.

mod common;

use std::sync::Arc;

use common::{Golden, cpu, gpu, nothing, relative};
use efface::Error;
use efface::device::Device;
use efface::model::batch::Tokens;
use efface::model::weights::WeightSource;
use efface::stream::{CheckpointWeights, Pass, PassOptions};
use efface::unlearn::redirect::{Covariance, Provenance, covariance, sites, states};

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
