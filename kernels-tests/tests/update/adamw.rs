//! AdamW on every device, against an independent one in float64; the rounding of the stored weights, to the bit.

use efface::Element;
use efface::kernels::update::adamw::{AdamwStep, Params, bias_correction, initial_state, ranks, reference, run};
use kernels_tests::{Random, devices, wide};

use crate::{bits, mask, selected};

const STEPS: u32 = 20;

/// How far master value and moments may be off. A number below 2 is rounded by at most 2^-24. In each step the master value
/// (below 2) is rounded once, and a step of at most 0.1 several times, by devices that may divide and take roots to three
/// units: that is counted as two more. The first moment (below 0.25) is rounded three times, and forgets all but the last
/// ten steps; the second one (below 0.00125 after twenty steps) four times in each.
const BOUNDS: [f64; 3] = [20.0 * 3.0 * ROUNDING, 10.0 * 3.0 * 0.25 * ROUNDING, 20.0 * 4.0 * 0.00125 * ROUNDING];
const ROUNDING: f64 = 1.0 / 16_777_216.0;

fn step(t: u32) -> AdamwStep {
    AdamwStep { epsilon: 1e-6, weight_decay: 0.1, gradient_scale: 0.25, ..AdamwStep::new(0.03, t) }
}

/// AdamW as its paper has it (algorithm 2, with the step size also on the decay), in float64.
fn formula(weight: f64, gradients: impl Iterator<Item = f64>) -> [f64; 3] {
    let [beta1, beta2] = [0.9f32, 0.999].map(f64::from);
    let [rate, epsilon, decay] = [0.03f32, 1e-6, 0.1].map(f64::from);
    let (mut w, mut m, mut v) = (weight, 0.0, 0.0);
    for (t, g) in (1..).zip(gradients) {
        let g = g / 4.0;
        m = beta1 * m + (1.0 - beta1) * g;
        v = beta2 * v + (1.0 - beta2) * g.powi(2);
        let unbiased = [m / (1.0 - beta1.powi(t)), v / (1.0 - beta2.powi(t))];
        w = (1.0 - rate * decay) * w - rate * unbiased[0] / (unbiased[1].sqrt() + epsilon);
    }
    [w, m, v]
}

#[test]
fn twenty_steps_match_float64() {
    let mut random = Random::new("update/adamw");
    for element in Element::ALL {
        for count in [1, 33, 2 * random.size(500, 20_000) + 1] {
            let weights = element.encode(&random.values(count + 2));
            let mut mask = mask(&mut random, count);
            mask[0] |= 1;
            let gradients: Vec<Vec<f32>> = (0..STEPS).map(|_| random.values(count)).collect();
            let start = initial_state(element, &weights, &mask, count).unwrap();
            let chosen: Vec<usize> = (0..count).filter(|i| selected(&mask, *i)).collect();
            assert_eq!(start.len(), 3 * chosen.len());
            let want: Vec<[f64; 3]> = chosen
                .iter()
                .zip(start.chunks(3))
                .map(|(i, row)| formula(row[0].into(), gradients.iter().map(|g| g[*i].into())))
                .collect();
            let compare = |what: &str, state: &[f32]| {
                for (s, (row, want)) in state.chunks(3).zip(&want).enumerate() {
                    for (figure, bound) in BOUNDS.iter().enumerate() {
                        let (got, want) = (f64::from(row[figure]), want[figure]);
                        assert!((got - want).abs() <= *bound, "{what}: {s}, figure {figure}: {got}, not {want}");
                    }
                }
            };
            for device in devices() {
                let [bm, br] = [&mask, &ranks(&mask)].map(|v| device.upload_new(v).unwrap());
                let bw = device.upload_new(&weights).unwrap();
                let bs = device.upload_new(&start).unwrap();
                for (t, gradient) in (1..).zip(&gradients) {
                    let bg = device.upload_new(gradient).unwrap();
                    run(device, count, element, &bw, &bm, &br, &bg, &bs, step(t)).unwrap();
                }
                let state = device.read::<f32>(&bs, start.len()).unwrap();
                compare(&format!("{} {element:?}", device.name()), &state);
                let masters: Vec<f32> = state.chunks(3).map(|row| row[0]).collect();
                let (got, size) = (device.read::<u8>(&bw, weights.len()).unwrap(), element.size());
                let rounded = element.encode(&masters);
                for (s, i) in chosen.iter().enumerate() {
                    assert_eq!(bits(&got, size, *i), bits(&rounded, size, s));
                }
                for i in (0..count + 2).filter(|i| *i >= count || !selected(&mask, *i)) {
                    assert_eq!(bits(&got, size, i), bits(&weights, size, i), "weight {i} was not selected");
                }
            }
            let mut state = wide(&start);
            let mut plain = vec![0.0; count];
            for (t, gradient) in (1..).zip(&gradients) {
                reference(&params(count, step(t)), &mut plain, &mask, &wide(gradient), &mut state);
            }
            compare("reference", &state.iter().map(|v| *v as f32).collect::<Vec<f32>>());
        }
    }
}

fn params(count: usize, step: AdamwStep) -> Params {
    Params {
        count: count as u32,
        learning_rate: step.learning_rate,
        beta1: step.beta1,
        beta2: step.beta2,
        epsilon: step.epsilon,
        weight_decay: step.weight_decay,
        bias_correction1: step.bias_correction1,
        bias_correction2: step.bias_correction2,
        gradient_scale: step.gradient_scale,
    }
}

/// A step of size zero stores the master values: every kind of number that rounding treats apart, ties among them.
#[test]
fn rounding_is_that_of_the_half_crate() {
    let mut random = Random::new("update/adamw rounding");
    for element in [Element::F16, Element::Bf16] {
        let mut masters = Vec::new();
        for pattern in 0..=u16::MAX {
            let mut value = [0.0];
            element.decode(&pattern.to_le_bytes(), &mut value).unwrap();
            let mut next = [0.0];
            element.decode(&pattern.wrapping_add(1).to_le_bytes(), &mut next).unwrap();
            let tie = ((f64::from(value[0]) + f64::from(next[0])) / 2.0) as f32;
            masters.extend([value[0], tie, tie.next_up(), tie.next_down()]);
            masters.push(f32::from_bits(random.bits() as u32));
        }
        // Devices may take a subnormal f32 for zero.
        masters.retain(|m| *m == 0.0 || m.is_normal());
        masters.extend([65504.0, 65519.996, 65520.0, -65520.0, f32::MAX, f32::MIN, -0.0, 2f32.powi(-25)]);
        let count = masters.len();
        let mask: Vec<u32> = (0..count).step_by(32).map(|i| u32::MAX >> (32 - (count - i).min(32))).collect();
        let start: Vec<f32> = masters.iter().flat_map(|m| [*m, 0.0, 0.0]).collect();
        let want = element.encode(&masters);
        for device in devices() {
            let [bm, br] = [&mask, &ranks(&mask)].map(|v| device.upload_new(v).unwrap());
            let [bw, bg] = [2, 4].map(|size| device.allocate((count * size) as u64).unwrap());
            let bs = device.upload_new(&start).unwrap();
            run(device, count, element, &bw, &bm, &br, &bg, &bs, AdamwStep::new(0.0, 1)).unwrap();
            let got = device.read::<u8>(&bw, want.len()).unwrap();
            for (i, master) in masters.iter().enumerate() {
                let (got, want) = (bits(&got, 2, i), bits(&want, 2, i));
                assert_eq!(got, want, "{master:e} as {element:?}: {got:x}, not {want:x}, {}", device.name());
            }
        }
    }
}

#[test]
fn helpers_count_and_check() {
    assert_eq!(ranks(&[0b101, 0, u32::MAX, 1]), [0, 2, 2, 34]);
    assert!(initial_state(Element::F16, &[0; 3], &[1], 2).unwrap_err().is_input());
    assert!(initial_state(Element::F32, &[0; 200], &[1], 40).unwrap_err().is_input());
    let correction = f64::from(bias_correction(0.999, 1));
    assert!((correction / (1.0 - f64::from(0.999f32)) - 1.0).abs() < 1e-7);
}
