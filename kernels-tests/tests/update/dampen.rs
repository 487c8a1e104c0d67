//! Dampened weights on every device, to the bit: the formula where the mask says so, the old bits everywhere else.

use efface::Element;
use efface::kernels::update::dampen::{Params, reference, run};
use half::{bf16, f16};
use kernels_tests::{Random, devices};

use crate::{Comparison, bits, importances, mask, selected};

/// What becomes of a selected weight, `None` where it stays: in float64, with the roundings that the kernel defines.
fn formula(comparison: Comparison, lambda: f32, weight: f32, forget: f32, retain: f32) -> Option<f32> {
    let (forget, compared) = comparison.pair(forget, retain)?;
    let flushed = |value: f64| if value.abs() < 2f64.powi(-125) { 0.0f64.copysign(value) } else { value };
    let wanted = flushed(f64::from((compared * f64::from(lambda)) as f32));
    if forget == 0.0 || wanted >= forget || !weight.is_finite() {
        return None;
    }
    let factor = flushed(f64::from((wanted / forget) as f32));
    (factor != 1.0).then(|| flushed(f64::from((f64::from(weight) * factor) as f32)) as f32)
}

fn widen(element: Element, bits: u32) -> f32 {
    match element {
        Element::F32 => f32::from_bits(bits),
        Element::F16 => f16::from_bits(bits as u16).to_f32(),
        Element::Bf16 => bf16::from_bits(bits as u16).to_f32(),
    }
}

fn round(element: Element, value: f32) -> u32 {
    match element {
        Element::F32 => value.to_bits(),
        Element::F16 => f16::from_f32(value).to_bits().into(),
        Element::Bf16 => bf16::from_f32(value).to_bits().into(),
    }
}

fn check(
    element: Element,
    count: usize,
    weights: &[u8],
    mask: &[u32],
    sums: [&[f32]; 2],
    lambda: f32,
    how: Comparison,
) {
    let Comparison { forget_scale, retain_scale, blend } = how;
    let size = element.size();
    let want = |i: usize| {
        let old = bits(weights, size, i);
        let new = formula(how, lambda, widen(element, old), sums[0][i], sums[1][i]);
        new.filter(|_| selected(mask, i)).map_or(old, |value| round(element, value))
    };
    for device in devices() {
        let bw = device.upload_new(weights).unwrap();
        let bm = device.upload_new(mask).unwrap();
        let [bf, br] = sums.map(|v| device.upload_new(v).unwrap());
        run(device, count, element, &bw, &bm, &bf, forget_scale, &br, retain_scale, blend, lambda).unwrap();
        let got = device.read::<u8>(&bw, weights.len()).unwrap();
        for i in 0..count {
            let (got, want) = (bits(&got, size, i), want(i));
            let pair = (sums[0][i], sums[1][i]);
            assert_eq!(got, want, "{element:?} {i} of {pair:?} {how:?} {lambda}: {got:x}, {want:x} {}", device.name());
        }
        assert_eq!(got[count * size..], weights[count * size..], "behind the last weight");
    }
}

#[test]
fn every_selected_weight_equals_the_formula_and_every_other_keeps_its_bits() {
    let mut random = Random::new("update/dampen");
    for element in Element::ALL {
        for count in [1, 33, 2 * random.size(1000, 20_000) + 1] {
            // Any bits, so that NaNs, infinities and subnormal numbers are among them; a word more than is needed.
            let bytes = (count * element.size()).next_multiple_of(4) + 4;
            let weights: Vec<u8> = (0..bytes).map(|_| random.bits() as u8).collect();
            let mask = mask(&mut random, count);
            let (forget, retain) = (importances(&mut random, count), importances(&mut random, count));
            for comparison in Comparison::both(&mut random) {
                for lambda in [0.0, 0.1, 1.0, 3e4] {
                    check(element, count, &weights, &mask, [&forget, &retain], lambda, comparison);
                }
            }
        }
    }
}

/// All bit patterns of the short types, with factors that lead through their subnormal range.
#[test]
fn rounding_is_that_of_the_half_crate() {
    let mut random = Random::new("update/dampen rounding");
    let count = 1 << 16;
    let weights: Vec<u8> = (0..count as u32).flat_map(|i| (i as u16).to_le_bytes()).collect();
    let mask = vec![u32::MAX; count / 32];
    let ones = vec![1.0; count];
    let comparison = Comparison { forget_scale: 1.0, retain_scale: 1.0, blend: 0.0 };
    for element in [Element::F16, Element::Bf16] {
        for lambda in [0.5, 0.75, random.signed().abs(), 2f32.powi(-12), 1e-4, 1e-9] {
            check(element, count, &weights, &mask, [&ones, &ones], lambda, comparison);
        }
    }
}

#[test]
fn the_reference_is_the_formula() {
    let mut random = Random::new("update/dampen reference");
    let count = random.size(100, 2000);
    let (weights, mask) = (random.values(count), mask(&mut random, count));
    let (forget, retain) = (importances(&mut random, count), importances(&mut random, count));
    let [comparison, _] = Comparison::both(&mut random);
    let Comparison { forget_scale, retain_scale, blend } = comparison;
    let mut got = weights.clone();
    let params = Params { count: count as u32, forget_scale, retain_scale, blend, lambda: 0.6 };
    reference(&params, &mut got, &mask, &forget, &retain);
    for i in 0..count {
        let new = formula(comparison, 0.6, weights[i], forget[i], retain[i]).filter(|_| selected(&mask, i));
        assert_eq!(got[i], new.unwrap_or(weights[i]));
    }
}

#[test]
fn refuses_what_is_no_factor() {
    let device = &devices()[0];
    let [w, m, f, r] = [(); 4].map(|()| device.allocate(4).unwrap());
    for lambda in [-0.1, f32::NAN, f32::INFINITY] {
        assert!(run(device, 1, Element::F32, &w, &m, &f, 1.0, &r, 1.0, 0.0, lambda).unwrap_err().is_input());
    }
}
