// The activation functions and their derivatives. What `src/kernels/activation/mod.rs` says about the formulas holds here.

// Where a float's exponential neither overflows nor vanishes.
const EXPONENT_LIMIT = 80.0;

// sigmoid(x) and 1 - sigmoid(x), the latter without the cancellation of a subtraction.
fn logistic(x: f32) -> vec2<f32> {
    let e = exp(clamp(-x, -EXPONENT_LIMIT, EXPONENT_LIMIT));
    let s = 1.0 / (1.0 + e);
    return vec2(s, e * s);
}

#if ACTIVATION == gelu
const INVERSE_SQRT_TWO_PI = 0.3989422804;
// The distribution's tail is below exp(-100) / 2 = 0 beyond.
const TAIL_END = 14.0;

// Density of the standard normal distribution.
fn normal_density(x: f32) -> f32 {
    let a = min(abs(x), TAIL_END);
    return INVERSE_SQRT_TWO_PI * exp(-0.5 * a * a);
}

// Distribution function of the standard normal distribution: exp(-a²/2) t P(t) is the tail beyond a = |x|.
fn normal_distribution(x: f32) -> f32 {
    let a = min(abs(x), TAIL_END);
    let t = 1.0 / fma(0.27, a, 1.0);
    var p = 0.0291070286;
    p = fma(p, t, -0.127242118);
    p = fma(p, t, 0.171444684);
    p = fma(p, t, -0.0712139159);
    p = fma(p, t, 0.109277204);
    p = fma(p, t, 0.071406059);
    p = fma(p, t, 0.101980366);
    p = fma(p, t, 0.107518606);
    p = fma(p, t, 0.107722096);
    let tail = exp(-0.5 * a * a) * t * p;
    return select(tail, 1.0 - tail, x > 0.0);
}

fn activate(x: f32) -> f32 {
    return x * normal_distribution(x);
}

fn activation_derivative(x: f32) -> f32 {
    return normal_distribution(x) + x * normal_density(x);
}
#elif ACTIVATION == gelu_tanh
// 2 sqrt(2/π): (1 + tanh u) / 2 is sigmoid(2 u).
const SLOPE = 1.5957691216;
const CUBIC = 0.044715;
// Both functions have reached their limits beyond; the cube stays finite.
const ARGUMENT_LIMIT = 20.0;

fn activate(x: f32) -> f32 {
    let a = clamp(x, -ARGUMENT_LIMIT, ARGUMENT_LIMIT);
    return x * logistic(SLOPE * a * fma(CUBIC * a, a, 1.0)).x;
}

fn activation_derivative(x: f32) -> f32 {
    let a = clamp(x, -ARGUMENT_LIMIT, ARGUMENT_LIMIT);
    let s = logistic(SLOPE * a * fma(CUBIC * a, a, 1.0));
    return s.x + x * s.x * s.y * SLOPE * fma(3.0 * CUBIC * a, a, 1.0);
}
#elif ACTIVATION == silu
fn activate(x: f32) -> f32 {
    return x * logistic(x).x;
}

fn activation_derivative(x: f32) -> f32 {
    let s = logistic(x);
    return s.x * fma(x, s.y, 1.0);
}
#else
fn activate(x: f32) -> f32 {
    return select(x, 0.0, x < 0.0);
}

fn activation_derivative(x: f32) -> f32 {
    return select(0.0, 1.0, x > 0.0);
}
#endif
