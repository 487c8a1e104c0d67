//! Masked training on tiny checkpoints: against AdamW in float64, to the bit where nothing is chosen, and as a whole.

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use common::{Golden, cpu, gpu};
use efface::Element;
use efface::device::Device;
use efface::kernels::Accumulate;
use efface::model::batch::Tokens;
use efface::model::weights::WeightSource;
use efface::model::{Parameter, Role};
use efface::stream::{CheckpointWeights, Pass, PassOptions, Unit};
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::importance::ImportanceSink;
use efface::unlearn::store::{MemoryStore, Store};
use efface::unlearn::train::{Adamw, Schedule, TrainOptions, Trainable, TrainedWeights, Training, train};

const SETTINGS: Adamw = Adamw { beta1: 0.85, beta2: 0.98, epsilon: 1e-6, weight_decay: 0.1, clip: Some(0.5) };

/// Every third parameter whole, every third by a mask, every third not at all.
fn masks(parameters: &[Parameter]) -> Vec<Trainable> {
    let mut random = 12_345u32;
    let mut word = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random ^ random >> 15
    };
    let of = |(i, parameter): (usize, &Parameter)| match i % 3 {
        0 => Trainable::All,
        1 => {
            let count = parameter.count();
            let mut words: Vec<u32> = (0..count.div_ceil(32)).map(|_| word()).collect();
            if !count.is_multiple_of(32) {
                words[count / 32] &= (1 << (count % 32)) - 1;
            }
            Trainable::Bits(words)
        }
        _ => Trainable::None,
    };
    parameters.iter().enumerate().map(of).collect()
}

fn chosen(mask: &Trainable, i: usize) -> bool {
    match mask {
        Trainable::None => false,
        Trainable::All => true,
        Trainable::Bits(words) => words[i / 32] >> (i % 32) & 1 == 1,
    }
}

fn source(golden: &Golden) -> Arc<CheckpointWeights> {
    Arc::new(CheckpointWeights::new(golden.checkpoint.clone()))
}

fn values(weights: &dyn WeightSource, parameter: &Parameter) -> Vec<f32> {
    let (element, bytes) = weights.tensor(parameter).unwrap();
    let mut values = vec![0.0; parameter.count()];
    element.decode(&bytes, &mut values).unwrap();
    values
}

/// The gradients at `weights`, summed over the units.
fn gradients(golden: &Golden, device: &Device, weights: Arc<TrainedWeights>, units: &[Unit]) -> Vec<Vec<f32>> {
    let pass = Pass::over(device, golden.model.clone(), weights, PassOptions::default()).unwrap();
    let mut store = MemoryStore::new(&golden.model);
    let mut sink = ImportanceSink::new(&golden.model, vec![Accumulate::Sum], &mut store);
    pass.gradients(units, &mut sink, &|_, _| {}).unwrap();
    (0..golden.model.parameters.len()).map(|id| store.all(id, Accumulate::Sum).unwrap()).collect()
}

/// Master value, first and second moment of one element.
type State = [f64; 3];

/// AdamW as its paper has it (algorithm 2, the step size also on the decay), of a gradient that was clipped.
fn formula([w, m, v]: State, gradient: f64, t: i32, rate: f64, decay: f64) -> State {
    let [beta1, beta2] = [SETTINGS.beta1, SETTINGS.beta2].map(f64::from);
    let m = beta1 * m + (1.0 - beta1) * gradient;
    let v = beta2 * v + (1.0 - beta2) * gradient * gradient;
    let (m_hat, v_hat) = (m / (1.0 - beta1.powi(t)), v / (1.0 - beta2.powi(t)));
    [w - rate * decay * w - rate * m_hat / (v_hat.sqrt() + f64::from(SETTINGS.epsilon)), m, v]
}

fn three_steps(name: &str, device: &Device) {
    let golden = Golden::open(name);
    let parameters = &golden.model.parameters;
    let mask = masks(parameters);
    let base = source(&golden);
    let mut training =
        Training::new(device, &golden.model, base.clone(), &mask, SETTINGS, PassOptions::default()).unwrap();
    let start = |p: &Parameter| values(&*base, p).iter().map(|w| [f64::from(*w), 0.0, 0.0]).collect::<Vec<State>>();
    let mut states: Vec<Vec<State>> = parameters.iter().map(start).collect();
    let units = Estimator::Batch(3).units(&golden.samples, Loss::Mean, BatchWeight::Samples);
    let mut clipped = 0;
    for (t, rate) in [(1, 0.01f32), (2, 0.02), (3, 0.005)] {
        let gradients = gradients(&golden, device, training.weights(), &units);
        let all = gradients.iter().zip(&mask).flat_map(|(g, mask)| {
            g.iter().enumerate().filter(|(i, _)| chosen(mask, *i)).map(|(_, g)| f64::from(*g).powi(2))
        });
        let norm = all.sum::<f64>().sqrt();
        let scale = (f64::from(SETTINGS.clip.unwrap()) / norm).min(1.0);
        clipped += usize::from(scale < 1.0);
        for (((states, gradient), mask), parameter) in states.iter_mut().zip(&gradients).zip(&mask).zip(parameters) {
            let decay = if parameter.role == Role::Vector { 0.0 } else { f64::from(SETTINGS.weight_decay) };
            let pairs = states.iter_mut().zip(gradient).enumerate().filter(|(i, _)| chosen(mask, *i));
            for (_, (state, g)) in pairs {
                *state = formula(*state, f64::from(*g) * scale, t, f64::from(rate), decay);
            }
        }
        let report = training.step(&units, rate).unwrap();
        assert_eq!(report.step, t as usize);
        assert!((report.gradient_norm - norm).abs() <= 1e-6 * norm, "{} is not {norm}", report.gradient_norm);
    }
    assert!(clipped > 0, "the clipping was not tested");
    let mut moved = 0;
    for ((parameter, states), mask) in parameters.iter().zip(&states).zip(&mask) {
        let (old, new) = (base.tensor(parameter).unwrap(), training.weights().tensor(parameter).unwrap());
        let size = old.0.size();
        let before = values(&*base, parameter);
        for (i, got) in values(&*training.weights(), parameter).into_iter().enumerate() {
            if !chosen(mask, i) {
                let bits = i * size..(i + 1) * size;
                assert_eq!(old.1[bits.clone()], new.1[bits], "{name} {} [{i}] was not chosen", parameter.name);
                continue;
            }
            // A step is a few hundredths: its own rounding and the master value's are far below 1e-6; the stored type
            // adds half a unit in its last place.
            let want = states[i][0];
            let stored = match new.0 {
                Element::F32 => 0.0,
                Element::F16 => 2f64.powi(-11) * want.abs() + 2f64.powi(-25),
                Element::Bf16 => 2f64.powi(-8) * want.abs(),
            };
            let error = (f64::from(got) - want).abs();
            assert!(error <= 1e-6 + stored * 1.001, "{name} {} [{i}]: {got}, not {want}", parameter.name);
            moved += usize::from(got != before[i]);
        }
    }
    assert!(moved > 1000, "{moved} elements moved");
}

#[test]
fn three_steps_match_float64_on_the_cpu() {
    ["llama", "gpt2", "llama-tied-twice", "llama-bf16", "qwen2-f16"].iter().for_each(|name| three_steps(name, &cpu()));
}

#[test]
fn three_steps_match_float64_on_the_gpu() {
    let device = gpu();
    ["qwen3", "gpt2-bf16"].iter().for_each(|name| three_steps(name, &device));
}

#[test]
fn slices_do_not_change_a_bit() {
    let golden = Golden::open("llama");
    let mask = masks(&golden.model.parameters);
    // Few tokens, so that only the weights are large.
    let ids: Vec<u32> = (1..9).collect();
    let sample = Arc::new(Tokens::new(&ids, &[1, 2, 3, 4, 5, 6, 7, 8], 0));
    let units = Estimator::Sample.units(&[sample], Loss::Mean, BatchWeight::Samples);
    let run = |device: &Device| {
        let options = PassOptions::default();
        let mut training =
            Training::new(device, &golden.model, source(&golden), &mask, Adamw::default(), options).unwrap();
        training.step(&units, 0.01).unwrap();
        let tensor = |p: &Parameter| training.weights().tensor(p).unwrap().1.to_vec();
        golden.model.parameters.iter().map(tensor).collect::<Vec<_>>()
    };
    // The state of 3,328 elements fits: the embedding's 151 rows of 30 take two slices.
    assert!(run(&gpu()) == run(&gpu().with_binding_limit(40_000)));
}

#[test]
fn the_loss_falls_and_a_seed_repeats_it() {
    let golden = Golden::open("llama");
    let mask = vec![Trainable::All; golden.model.parameters.len()];
    let run = |seed| {
        let options = TrainOptions {
            steps: 40,
            batch: 4,
            unit: 3,
            seed,
            learning_rate: 3e-3,
            warm_up: 5,
            schedule: Schedule::Cosine,
            ..TrainOptions::default()
        };
        let go_on = &mut |_: &_| ControlFlow::Continue(());
        train(&cpu(), &golden.model, source(&golden), &golden.samples, &mask, &options, go_on).unwrap()
    };
    let (one, again, other) = (run(1), run(1), run(2));
    assert_eq!(one.steps, again.steps);
    assert_ne!(one.steps, other.steps);
    let mean = |weights: Arc<dyn WeightSource>| {
        let pass = Pass::over(&cpu(), golden.model.clone(), weights, PassOptions::default()).unwrap();
        let losses = pass.losses(&golden.samples, &|_, _| {}).unwrap();
        losses.iter().map(|loss| loss.mean()).sum::<f64>() / losses.len() as f64
    };
    let (before, after) = (mean(source(&golden)), mean(one.weights));
    assert!(after < 0.5 * before, "from {before} to {after}");
}

#[test]
fn progress_can_end_it_and_the_rate_follows_its_schedule() {
    let golden = Golden::open("gpt2");
    let mask = vec![Trainable::All; golden.model.parameters.len()];
    let options = TrainOptions { steps: 9, batch: 2, unit: 2, ..TrainOptions::default() };
    let mut stop = |report: &efface::unlearn::train::StepReport| {
        if report.step == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let trained = train(&cpu(), &golden.model, source(&golden), &golden.samples, &mask, &options, &mut stop).unwrap();
    assert_eq!(trained.steps.len(), 3);

    let options = TrainOptions { steps: 12, warm_up: 4, learning_rate: 1.0, ..TrainOptions::default() };
    let rates = |schedule| (1..=12).map(|t| TrainOptions { schedule, ..options }.rate(t)).collect::<Vec<_>>();
    let warm = [0.25, 0.5, 0.75, 1.0];
    assert_eq!(rates(Schedule::Constant), [&warm[..], &[1.0; 8]].concat());
    let line = [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125];
    assert_eq!(rates(Schedule::Linear), [&warm[..], &line].concat());
    let cosine = rates(Schedule::Cosine);
    assert_eq!((cosine[4], cosine[8]), (1.0, 0.5));
    assert!(cosine[4..].is_sorted_by(|a, b| a > b) && cosine[11] > 0.0);
}

#[test]
fn wrong_masks_and_options_are_refused() {
    let golden = Golden::open("llama");
    let count = golden.model.parameters.len();
    let attempt = |mask: &[Trainable], options: TrainOptions| {
        let go_on = &mut |_: &_| ControlFlow::Continue(());
        train(&cpu(), &golden.model, source(&golden), &golden.samples, mask, &options, go_on).map(|_| ()).unwrap_err()
    };
    let all = vec![Trainable::All; count];
    let usual = TrainOptions::default();
    let mut short = all.clone();
    short[0] = Trainable::Bits(vec![1]);
    let mut beyond = all.clone();
    let norm = golden.model.parameters.iter().position(|p| p.count() == 30).unwrap();
    beyond[norm] = Trainable::Bits(vec![1 << 30]);
    for (mask, options) in [
        (&all[1..], usual),
        (&vec![Trainable::None; count][..], usual),
        (&short[..], usual),
        (&beyond[..], usual),
        (&all[..], TrainOptions { batch: 0, ..usual }),
        (&all[..], TrainOptions { learning_rate: f32::NAN, ..usual }),
        (&all[..], TrainOptions { adamw: Adamw { clip: Some(0.0), ..Adamw::default() }, ..usual }),
        (&all[..], TrainOptions { adamw: Adamw { beta2: 1.0, ..Adamw::default() }, ..usual }),
    ] {
        let error = attempt(mask, options);
        assert!(error.is_input(), "{error}");
    }
    let error = attempt(&all, TrainOptions { learning_rate: 1e30, ..usual });
    assert!(!error.is_input() && error.to_string().contains("smaller steps"), "{error}");
}
