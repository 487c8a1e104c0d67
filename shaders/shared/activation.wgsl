// The activation function of a permutation, and its derivative.

#if ACTIVATION == gelu
const INVERSE_SQRT_2 = 0.70710678118654752;
const INVERSE_SQRT_TAU = 0.39894228040143268;

// erf by its continued series where it converges fast, and by 1 - erfc beyond: Abramowitz and Stegun 7.1.5 and the
// rational approximation of erfc of Numerical Recipes (Chebyshev fit, relative error below 1.2e-7).
fn erf(x: f32) -> f32 {
    let a = abs(x);
    if a < 0.5 {
        let q = a * a;
        let series = 1.0 + q * (-0.33333333333 + q * (0.1 + q * (-0.02380952381 + q * (0.00462962963
            + q * (-0.00075757576 + q * 0.00010683761)))));
        return 1.1283791670955126 * x * series;
    }
    let t = 1.0 / (1.0 + 0.5 * a);
    let fit = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 + t * (0.27886807
        + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
    let tail = t * exp(-a * a + fit);
    return select(tail - 1.0, 1.0 - tail, x > 0.0);
}

fn activate(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf(x * INVERSE_SQRT_2));
}

fn slope(x: f32) -> f32 {
    return 0.5 * (1.0 + erf(x * INVERSE_SQRT_2)) + x * INVERSE_SQRT_TAU * exp(-0.5 * x * x);
}
#elif ACTIVATION == gelu_tanh
const SQRT_2_OVER_PI = 0.79788456080286536;
const CUBIC = 0.044715;
// tanh is 1 in f32 far below this; some drivers overflow on larger arguments.
const TANH_LIMIT = 15.0;

fn inner(x: f32) -> f32 {
    return tanh(clamp(SQRT_2_OVER_PI * (x + CUBIC * x * x * x), -TANH_LIMIT, TANH_LIMIT));
}

fn activate(x: f32) -> f32 {
    return 0.5 * x * (1.0 + inner(x));
}

fn slope(x: f32) -> f32 {
    let t = inner(x);
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
}
#elif ACTIVATION == silu
fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-clamp(x, -80.0, 80.0)));
}

fn activate(x: f32) -> f32 {
    return x * sigmoid(x);
}

fn slope(x: f32) -> f32 {
    let s = sigmoid(x);
    return s * (1.0 + x * (1.0 - s));
}
#else
fn activate(x: f32) -> f32 {
    return max(x, 0.0);
}

fn slope(x: f32) -> f32 {
    return select(0.0, 1.0, x > 0.0);
}
#endif
