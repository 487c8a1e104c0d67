//! Other losses than cross-entropy: against PyTorch's float64 figures, and with the same bytes under every budget.

mod common;

use std::sync::Arc;

use common::{Golden, cpu, gpu, numbers, relative};
use efface::Element;
use efface::checkpoint::TensorFile;
use efface::device::Device;
use efface::kernels::Accumulate;
use efface::model::Parameter;
use efface::model::head::LossKind;
use efface::model::weights::{HostBytes, WeightSource};
use efface::stream::{
    CheckpointWeights, Objective, Pass, PassOptions, PerSample, SampleObjective, SquareNorm, Unit, Weighted,
};
use efface::unlearn::importance::ImportanceSink;
use efface::unlearn::store::{MemoryStore, Store};

/// As in `golden/objectives.py`.
const MOVED: [f64; 7] = [-3.0, 0.5, 20.0, -8.0, 0.0, 4.0, 1.5];

/// A scenario of `golden/objectives.py`: each sample's loss and weight.
fn scenario(name: &str, golden: &Golden) -> (Vec<SampleObjective>, Vec<f32>) {
    let losses = golden.pass(&cpu(), PassOptions::default()).losses(&golden.samples, &|_, _| {}).unwrap();
    let npo = |i: usize| SampleObjective::Npo { beta: 0.1, reference: losses[i].sum() - MOVED[i] };
    let simnpo = |_| SampleObjective::SimNpo { beta: 2.5, delta: 4.5 };
    match name {
        "npo" => ((0..7).map(npo).collect(), vec![1.0 / 7.0; 7]),
        "simnpo" => ((0..7).map(simnpo).collect(), vec![1.0 / 7.0; 7]),
        _ => {
            use SampleObjective::{Ascent, Mean};
            (vec![npo(0), Mean, simnpo(2), Ascent, Mean, npo(5), Ascent], vec![0.25, 0.5, 1.0, 0.125, 2.0, 0.5, 1.0])
        }
    }
}

fn units(golden: &Golden, weights: &[f32], size: usize) -> Vec<Unit> {
    let weighted = golden.samples.iter().zip(weights);
    let all: Vec<Weighted> =
        weighted.map(|(tokens, weight)| Weighted { tokens: tokens.clone(), weight: *weight }).collect();
    all.chunks(size).map(<[_]>::to_vec).collect()
}

/// The loss and the gradient of every parameter, summed over the units.
fn measure(
    golden: &Golden,
    device: &Device,
    objective: &dyn Objective,
    units: &[Unit],
    options: PassOptions,
) -> efface::Result<(f64, Vec<Vec<f32>>)> {
    let mut store = MemoryStore::new(&golden.model);
    let mut sink = ImportanceSink::new(&golden.model, vec![Accumulate::Sum], &mut store);
    let losses = golden.pass(device, options).gradients_of(objective, units, &mut sink, &|_, _| {})?.losses;
    let samples = units.iter().flatten().zip(&losses).enumerate();
    let loss = samples.map(|(i, (sample, loss))| f64::from(sample.weight) * objective.term(i, loss).value).sum();
    let all = (0..golden.model.parameters.len()).map(|id| store.all(id, Accumulate::Sum)).collect::<Result<_, _>>()?;
    Ok((loss, all))
}

#[test]
fn losses_and_gradients_are_those_of_autograd() {
    let golden = Golden::open("llama");
    let file = TensorFile::open(&golden.directory.join("objectives.safetensors")).unwrap();
    for device in [cpu(), gpu()] {
        for name in ["npo", "simnpo", "mixed"] {
            let (objectives, weights) = scenario(name, &golden);
            let objective = PerSample::new(objectives);
            for size in [1, 3] {
                let units = units(&golden, &weights, size);
                let (loss, gradients) = measure(&golden, &device, &objective, &units, PassOptions::default()).unwrap();
                let want: f64 = file.metadata()[name].parse().unwrap();
                assert!((loss - want).abs() <= 1e-5 * want.abs(), "{name}: {loss}, not {want}");
                let mut compared = 0;
                for (parameter, gradient) in golden.model.parameters.iter().zip(&gradients) {
                    let key = format!("{name}/{}", parameter.name);
                    if file.tensor(&key).is_some() {
                        let error = relative(gradient, &numbers(&file, &key));
                        assert!(error <= 1e-4, "{name}, {} on {}: {error:.1e} off", parameter.name, device.name());
                        compared += 1;
                    }
                }
                assert_eq!(compared, 3);
            }
        }
    }
}

#[test]
fn the_budget_and_the_split_change_no_byte() {
    let device = gpu();
    for name in ["llama", "qwen3"] {
        let golden = Golden::open(name);
        let (objectives, weights) = scenario("mixed", &golden);
        let objective = PerSample::new(objectives);
        let units = units(&golden, &weights, 2);
        let run = |options| measure(&golden, &device, &objective, &units, options);
        device.set_memory(u64::MAX);
        let whole = run(PassOptions::default()).unwrap();
        let split = run(PassOptions { units_per_launch: Some(1), ..PassOptions::default() }).unwrap();
        assert!(whole == split, "{name}: the split");
        device.set_memory(1);
        let Err(efface::Error::Budget { needed, .. }) = run(PassOptions::default()) else {
            panic!("one byte is enough")
        };
        device.free_scratch();
        device.set_memory(needed);
        device.budget().reset_peak();
        let small = run(PassOptions::default()).unwrap();
        assert!(device.budget().peak() <= needed, "{name}: {} of {needed}", device.budget().peak());
        assert!(whole == small, "{name}: the budget");
    }
}

/// The checkpoint with the first layer's `down_proj` half as large again.
struct Scaled(CheckpointWeights);

impl WeightSource for Scaled {
    fn tensor(&self, parameter: &Parameter) -> efface::Result<(Element, HostBytes)> {
        let (element, bytes) = self.0.tensor(parameter)?;
        if parameter.name != "model.layers.0.mlp.down_proj.weight" {
            return Ok((element, bytes));
        }
        let mut values = vec![0.0; parameter.count()];
        element.decode(&bytes, &mut values)?;
        values.iter_mut().for_each(|value| *value *= 1.5);
        Ok((element, Arc::new(element.encode(&values))))
    }

    fn element(&self, parameter: &Parameter) -> efface::Result<Element> {
        self.0.element(parameter)
    }
}

#[test]
fn the_divergence_from_an_old_model_is_autograds_under_every_budget() {
    let golden = Golden::open("llama");
    let file = TensorFile::open(&golden.directory.join("objectives.safetensors")).unwrap();
    for device in [cpu(), gpu()] {
        let scaled: Arc<dyn WeightSource> = Arc::new(Scaled(CheckpointWeights::new(golden.checkpoint.clone())));
        let old = Pass::over(&device, golden.model.clone(), scaled, PassOptions::default()).unwrap();
        let states = old.states(&golden.samples, &|_, _| {}).unwrap();
        let objective = PerSample {
            losses: vec![SampleObjective::Mean; 7],
            old: states.into_iter().enumerate().map(|(i, s)| [0, 2, 4].contains(&i).then(|| Arc::new(s))).collect(),
        };
        let weights = [0.25, 0.5, 1.0, 0.125, 2.0, 0.5, 1.0];
        let units = units(&golden, &weights, 2);
        let run = |options| measure(&golden, &device, &objective, &units, options);
        let (_, whole) = run(PassOptions::default()).unwrap();
        let mut compared = 0;
        for (parameter, gradient) in golden.model.parameters.iter().zip(&whole) {
            let key = format!("kl/{}", parameter.name);
            if file.tensor(&key).is_some() {
                let error = relative(gradient, &numbers(&file, &key));
                assert!(error <= 1e-4, "{} on {}: {error:.1e} off", parameter.name, device.name());
                compared += 1;
            }
        }
        assert_eq!(compared, 3);
        if device.is_cpu() {
            continue;
        }
        device.set_memory(1);
        let Err(efface::Error::Budget { needed, .. }) = run(PassOptions::default()) else {
            panic!("one byte is enough")
        };
        device.free_scratch();
        device.set_memory(needed);
        device.budget().reset_peak();
        assert!(run(PassOptions::default()).unwrap().1 == whole, "the budget");
        assert!(device.budget().peak() <= needed, "{} of {needed}", device.budget().peak());
    }
}

#[test]
fn an_objective_for_other_samples_is_refused() {
    let golden = Golden::open("llama");
    let units = units(&golden, &[1.0; 7], 7);
    let objective = PerSample::new(vec![SampleObjective::Mean; 6]);
    let error = measure(&golden, &cpu(), &objective, &units, PassOptions::default()).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("6 samples"), "{error}");
    let one: Arc<dyn Objective> = Arc::new(PerSample::new(vec![SampleObjective::Mean]));
    assert!(one.term(1, &Default::default()).slope.is_nan());
}

/// LFSSD's loss, under every budget, through the pass's own setting too.
#[test]
fn the_squared_norm_of_the_logits_is_autograds_and_no_label_matters() {
    let golden = Golden::open("llama");
    let file = TensorFile::open(&golden.directory.join("objectives.safetensors")).unwrap();
    let means = |samples: &[Arc<efface::model::batch::Tokens>]| -> Vec<Unit> {
        let weights = [0.25, 0.5, 1.0, 0.125, 2.0, 0.5, 1.0];
        let one = |(tokens, weight): (&Arc<efface::model::batch::Tokens>, f32)| {
            vec![Weighted { tokens: tokens.clone(), weight: weight / tokens.target_count() as f32 }]
        };
        samples.iter().zip(weights).map(one).collect()
    };
    for device in [cpu(), gpu()] {
        let run = |units: &[Unit], options| measure(&golden, &device, &SquareNorm, units, options);
        let (_, whole) = run(&means(&golden.samples), PassOptions::default()).unwrap();
        let mut compared = 0;
        for (parameter, gradient) in golden.model.parameters.iter().zip(&whole) {
            let key = format!("squared/{}", parameter.name);
            if file.tensor(&key).is_some() {
                let error = relative(gradient, &numbers(&file, &key));
                assert!(error <= 1e-4, "{} on {}: {error:.1e} off", parameter.name, device.name());
                compared += 1;
            }
        }
        assert_eq!(compared, 3);
        // Other labels at the same positions.
        let mut others: Vec<efface::model::batch::Tokens> = golden.samples.iter().map(|s| (**s).clone()).collect();
        for target in others.iter_mut().flat_map(|s| &mut s.targets).filter(|t| **t != u32::MAX) {
            *target = (*target + 5) % golden.model.config.vocabulary as u32;
        }
        let others: Vec<_> = others.into_iter().map(Arc::new).collect();
        assert!(run(&means(&others), PassOptions::default()).unwrap().1 == whole, "labels matter");
        let options = PassOptions { loss: LossKind::SquareNorm, ..PassOptions::default() };
        let mut store = MemoryStore::new(&golden.model);
        let mut sink = ImportanceSink::new(&golden.model, vec![Accumulate::Sum], &mut store);
        golden.pass(&device, options).gradients(&means(&golden.samples), &mut sink, &|_, _| {}).unwrap();
        let own: Vec<_> = (0..whole.len()).map(|id| store.all(id, Accumulate::Sum).unwrap()).collect();
        assert!(own == whole, "the pass's own setting");
        if device.is_cpu() {
            continue;
        }
        device.set_memory(1);
        let Err(efface::Error::Budget { needed, .. }) = run(&means(&golden.samples), PassOptions::default()) else {
            panic!("one byte is enough")
        };
        device.free_scratch();
        device.set_memory(needed);
        device.budget().reset_peak();
        assert!(run(&means(&golden.samples), PassOptions::default()).unwrap().1 == whole, "the budget");
        assert!(device.budget().peak() <= needed, "{} of {needed}", device.budget().peak());
    }
}
