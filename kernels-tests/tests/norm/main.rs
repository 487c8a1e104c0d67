//! Tests of the norms. The gradients are checked against differences of the norm itself in float64.
mod layer_backward;
mod layer_forward;
mod rms_backward;
mod rms_forward;

/// RMSNorm of one row, by its definition.
fn rms(x: &[f64], gain: &[f64], epsilon: f64) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    x.iter().zip(gain).map(|(x, g)| x / (mean + epsilon).sqrt() * g).collect()
}

/// LayerNorm of one row without its bias, by its definition.
fn layer(x: &[f64], gain: &[f64], epsilon: f64) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
    x.iter().zip(gain).map(|(x, g)| (x - mean) / (variance + epsilon).sqrt() * g).collect()
}

/// What a norm computes for one row: `(x, gain, epsilon)`.
type Norm = fn(&[f64], &[f64], f64) -> Vec<f64>;

/// The gradient of dy·norm(x) by differences of fourth order.
fn input_gradient(norm: Norm, x: &[f64], gain: &[f64], epsilon: f64, dy: &[f64]) -> Vec<f64> {
    let h = 1e-3;
    let at = |i: usize, steps: f64| -> f64 {
        let mut moved = x.to_vec();
        moved[i] += steps * h;
        norm(&moved, gain, epsilon).iter().zip(dy).map(|(y, d)| y * d).sum()
    };
    (0..x.len()).map(|i| (8.0 * (at(i, 1.0) - at(i, -1.0)) - (at(i, 2.0) - at(i, -2.0))) / (12.0 * h)).collect()
}
