//! Tests of the activation kernels.
mod backward;
mod forward;
mod gated_backward;
mod gated_forward;

use efface::kernels::activation::Activation;
use kernels_tests::Random;

/// Where the functions bend and where they have their limits, of both signs, and numbers in between.
fn arguments(random: &mut Random, count: usize) -> Vec<f32> {
    const SPECIAL: [f32; 16] =
        [0.0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6, 5.0, -5.0, 9.0, -9.0, 30.0, -30.0, 1e4, -1e4, 1e9, -1e9];
    // The large ones would hide all others in a relative error: the callers treat them apart by magnitude.
    (0..count).map(|i| if i < SPECIAL.len() { SPECIAL[i] } else { 6.0 * random.signed() }).collect()
}

/// Numbers of magnitude up to 10: `got` and `want` where `x` is one.
fn moderate(x: &[f32], got: &[f32], want: &[f64]) -> (Vec<f32>, Vec<f64>) {
    x.iter().zip(got).zip(want).filter(|((x, _), _)| x.abs() <= 10.0).map(|((_, got), want)| (*got, *want)).unzip()
}

/// The function in float64, from its definition.
fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => x * 0.5 * (1.0 + erf(x / 2.0f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Relu => x.max(0.0),
    }
}

/// The derivative in float64, by central differences of fourth order; error about 1e-11.
fn derivative(activation: Activation, x: f64) -> f64 {
    if activation == Activation::Relu {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    if x.abs() > 1000.0 {
        // Differences lose their digits; all functions are straight lines here.
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let f = |x| value(activation, x);
    let h = 1e-3;
    (8.0 * (f(x + h) - f(x - h)) - (f(x + 2.0 * h) - f(x - 2.0 * h))) / (12.0 * h)
}

/// erf(x) = 2/√π Σ (-1)^n x^(2n+1) / (n! (2n+1)) (DLMF 7.6.1) where that loses no digits, else 1 - the continued fraction of
/// erfc (DLMF 7.9.1).
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let magnitude = if a < 2.5 {
        let (mut sum, mut power, mut n) = (a, a, 0.0);
        while power.abs() > 1e-20 {
            n += 1.0;
            power *= -a * a / n;
            sum += power / (2.0 * n + 1.0);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let fraction = (1..=200).rev().fold(a, |below, n| a + f64::from(n) / 2.0 / below);
        1.0 - (-a * a).exp() / (std::f64::consts::PI.sqrt() * fraction)
    };
    magnitude.copysign(x)
}

#[test]
fn erf_is_right() {
    // DLMF table 7.23 and Abramowitz and Stegun table 7.1.
    for (x, want) in [(0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0), (3.0, 0.999_977_909_5)] {
        assert!((erf(x) - want).abs() < 1e-10 && erf(-x) == -erf(x));
    }
    assert!((erf(2.499_999_999) - erf(2.500_000_001)).abs() < 1e-10);
}
