//! Tests of the kernels that choose and change weights.
mod adamw;
mod combine;
mod dampen;
mod log_ratio_histogram;
mod select;

use kernels_tests::Random;

/// Scales and blend of a comparison.
#[derive(Clone, Copy, Debug)]
struct Comparison {
    forget_scale: f32,
    retain_scale: f32,
    blend: f32,
}

impl Comparison {
    /// Against the retain set, and against both sets together.
    fn both(random: &mut Random) -> [Comparison; 2] {
        let mut scale = || 1.0 / random.size(1, 900) as f32;
        let (forget_scale, retain_scale) = (scale(), scale());
        [0.0, 0.37].map(|blend| Comparison { forget_scale, retain_scale, blend })
    }

    /// The importances of a weight as the kernels define them, in float64, each rounded to float32 as they are.
    fn pair(self, forget: f32, retain: f32) -> Option<(f64, f64)> {
        let times = |a: f64, b: f32| {
            let product = (a * f64::from(b)) as f32;
            if product < 2f32.powi(-125) { 0.0 } else { f64::from(product) }
        };
        let own = |stored: f32, scale: f32| match stored {
            s if !s.is_finite() || s <= -2f32.powi(-126) => f64::NAN,
            s if s.abs() < 2f32.powi(-126) => 0.0,
            s => times(f64::from(s), scale),
        };
        let (forget, retain) = (own(forget, self.forget_scale), own(retain, self.retain_scale));
        let sum = (times(forget, self.blend) + times(retain, 1.0 - self.blend)) as f32;
        (forget.is_finite() && sum.is_finite()).then_some((forget, f64::from(sum)))
    }
}

/// The ratio as float32 holds it; above 0 for every forget importance above 0.
fn ratio(forget: f64, compared: f64) -> f64 {
    match (forget, compared) {
        (0.0, _) => 0.0,
        (_, 0.0) => f64::INFINITY,
        _ => f64::from((forget / compared) as f32).clamp(f64::from(f32::from_bits(1)), f64::from(f32::MAX)),
    }
}

/// Sums as a long run leaves them, and what should not be among them: zeros of both signs, subnormal numbers, the ends of
/// the range, negative numbers, infinity and NaN.
fn importances(random: &mut Random, count: usize) -> Vec<f32> {
    let any = |random: &mut Random| match random.size(0, 99) {
        0..20 => 0.0,
        20 => -0.0,
        21 => f32::from_bits(random.bits() as u32 & 0x007f_ffff),
        22 => f32::from_bits(random.bits() as u32 & 0x7fff_ffff),
        23 => [f32::NAN, f32::INFINITY, -1.0, -1e-40, f32::MAX, f32::MIN_POSITIVE][random.size(0, 5)],
        24..60 => random.size(1, 9) as f32,
        _ => (random.signed().abs() + 1e-3) * 2f32.powi(random.size(0, 80) as i32 - 50),
    };
    (0..count).map(|_| any(random)).collect()
}

/// A mask with empty, full and mixed words, and no bits beyond the last weight.
fn mask(random: &mut Random, count: usize) -> Vec<u32> {
    let mut mask: Vec<u32> = (0..count.div_ceil(32))
        .map(|_| match random.size(0, 4) {
            0 | 1 => 0,
            2 => u32::MAX,
            _ => random.bits() as u32 & random.bits() as u32,
        })
        .collect();
    if !count.is_multiple_of(32) {
        *mask.last_mut().unwrap() &= (1 << (count % 32)) - 1;
    }
    mask
}

fn selected(mask: &[u32], i: usize) -> bool {
    (mask[i / 32] >> (i % 32)) % 2 == 1
}

/// Bits of stored weight `i`.
fn bits(weights: &[u8], size: usize, i: usize) -> u32 {
    weights[i * size..(i + 1) * size].iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte))
}
