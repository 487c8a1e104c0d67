//! Tests of the activation kernels, against the functions' definitions in float64.
mod backward;
mod forward;
mod gated_backward;
mod gated_forward;

use efface::kernels::activation::Activation;

/// The error function by its series, summed until nothing is added: exact in float64 for the arguments of these tests.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

/// The function by its definition.
fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Relu => x.max(0.0),
    }
}

/// Its derivative, by a central difference of fourth order.
fn slope(activation: Activation, x: f64) -> f64 {
    let h = 1e-3;
    let at = |steps: f64| value(activation, x + steps * h);
    (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * h)
}

/// Arguments from -4 to 4, none so close to zero that a difference would cross the kink of the rectifier.
fn arguments(random: &mut kernels_tests::Random, count: usize) -> Vec<f32> {
    let away = |x: f32| if x.abs() < 0.01 { 0.5 } else { x };
    random.values(count).into_iter().map(|x| away(4.0 * x)).collect()
}
