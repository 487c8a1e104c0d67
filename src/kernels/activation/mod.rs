//! Kernels of the activation functions, plain and gated.
//!
//! The formulas, here and in `shaders/shared/activation.wgsl`:
//! - GELU (Hendrycks and Gimpel 2016) is `x Φ(x)` with `Φ(x) = (1 + erf(x / √2)) / 2`. For `a = |x|` the normal
//!   distribution's tail is `Φ(-a) = exp(-a²/2) R(a)`; `R(a) = t P(t)` with `t = 1 / (1 + 0.27 a)` and `P` of degree 8,
//!   interpolated at the Chebyshev nodes of `0 ≤ a ≤ 14`: relative error 4e-8 before rounding. Computed so, the tail does
//!   not suffer from the cancellation in `1 + erf`. The derivative is `Φ(x) + x exp(-x²/2) / √(2π)`.
//! - GELU's tanh form is `x (1 + tanh u) / 2 = x sigmoid(2u)` with `u = √(2/π) (x + 0.044715 x³)`: one exponential, no
//!   overflow for large arguments, no cancellation for negative ones. Its derivative has 1 − sigmoid(2u) times something that grows
//!   with u³, so that this difference must not cancel either: it is `e / (1 + e)` with `e = exp(-2u)`.
//! - SiLU is `x sigmoid(x)`, ReLU `max(x, 0)` with the derivative 0 at 0.

pub mod backward;
pub mod forward;
pub mod gated_backward;
pub mod gated_forward;

use crate::kernels::{Kernel, Real};

/// The family's kernels.
pub const KERNELS: &[Kernel] = &[backward::KERNEL, forward::KERNEL, gated_backward::KERNEL, gated_forward::KERNEL];

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x Φ(x)` with the normal distribution function Φ: Hugging Face's `gelu`.
    Gelu,
    /// The tanh form of GELU: `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// `x sigmoid(x)`, also called swish.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 4] = [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Relu];

    /// The name in shader permutations.
    pub const fn name(self) -> &'static str {
        match self {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_tanh",
            Activation::Silu => "silu",
            Activation::Relu => "relu",
        }
    }

    fn variant(self) -> &'static str {
        match self {
            Activation::Gelu => "ACTIVATION=gelu",
            Activation::GeluTanh => "ACTIVATION=gelu_tanh",
            Activation::Silu => "ACTIVATION=silu",
            Activation::Relu => "ACTIVATION=relu",
        }
    }
}

/// An activation function's formula.
trait Formula {
    /// f(x) and f'(x), in any precision and with any `exp`: the standard library's in a `reference`, one that vectorises
    /// in `cpu`. Inlined, what is not used of the pair is not computed.
    fn at<R: Real>(x: R, exp: impl Fn(R) -> R) -> (R, R);
}

struct Gelu;
struct GeluTanh;
struct Silu;
struct Relu;

/// Evaluates `$body` with `$formula` standing for the type that implements `$activation`: a loop per function, without
/// branches inside.
macro_rules! with_formula {
    ($activation:expr, $formula:ident => $body:expr) => {
        match $activation {
            $crate::kernels::activation::Activation::Gelu => {
                type $formula = $crate::kernels::activation::Gelu;
                $body
            }
            $crate::kernels::activation::Activation::GeluTanh => {
                type $formula = $crate::kernels::activation::GeluTanh;
                $body
            }
            $crate::kernels::activation::Activation::Silu => {
                type $formula = $crate::kernels::activation::Silu;
                $body
            }
            $crate::kernels::activation::Activation::Relu => {
                type $formula = $crate::kernels::activation::Relu;
                $body
            }
        }
    };
}
use with_formula;

/// f(x) and f'(x) of any activation, with the standard library's exponential: for the references.
fn value_and_derivative<R: Real>(activation: Activation, x: R) -> (R, R) {
    with_formula!(activation, F => F::at(x, R::exp))
}

#[inline(always)]
fn clamp<R: Real>(x: R, limit: f64) -> R {
    let limit = R::real(limit);
    if x < -limit {
        -limit
    } else if x > limit {
        limit
    } else {
        x
    }
}

/// sigmoid(x) and 1 − sigmoid(x), the latter without the cancellation of a subtraction.
#[inline(always)]
fn logistic<R: Real>(x: R, exp: impl Fn(R) -> R) -> (R, R) {
    // Where a float's exponential neither overflows nor vanishes.
    const EXPONENT_LIMIT: f64 = 80.0;
    let e = exp(clamp(-x, EXPONENT_LIMIT));
    let s = R::real(1.0) / (R::real(1.0) + e);
    (s, e * s)
}

impl Formula for Gelu {
    #[inline(always)]
    fn at<R: Real>(x: R, exp: impl Fn(R) -> R) -> (R, R) {
        const P: [f64; 9] = [
            0.107_722_096,
            0.107_518_606,
            0.101_980_366,
            0.071_406_059,
            0.109_277_204,
            -0.071_213_915_9,
            0.171_444_684,
            -0.127_242_118,
            0.029_107_028_6,
        ];
        // The tail is below exp(-98) / 2 beyond.
        const TAIL_END: f64 = 14.0;
        const INVERSE_SQRT_TWO_PI: f64 = 0.398_942_280_401_432_7;
        let a = clamp(x.abs(), TAIL_END);
        let density = exp(R::real(-0.5) * a * a);
        let t = R::real(1.0) / (R::real(1.0) + R::real(0.27) * a);
        let mut p = R::default();
        for coefficient in P.into_iter().rev() {
            p = p * t + R::real(coefficient);
        }
        let tail = density * t * p;
        let distribution = if x > R::default() { R::real(1.0) - tail } else { tail };
        (x * distribution, distribution + x * density * R::real(INVERSE_SQRT_TWO_PI))
    }
}

impl Formula for GeluTanh {
    #[inline(always)]
    fn at<R: Real>(x: R, exp: impl Fn(R) -> R) -> (R, R) {
        // 2 √(2/π).
        const SLOPE: f64 = 1.595_769_121_605_730_7;
        const CUBIC: f64 = 0.044_715;
        // Function and derivative have reached their limits beyond; the cube stays finite.
        const ARGUMENT_LIMIT: f64 = 20.0;
        let (one, slope) = (R::real(1.0), R::real(SLOPE));
        let a = clamp(x, ARGUMENT_LIMIT);
        let (s, rest) = logistic(slope * a * (one + R::real(CUBIC) * a * a), exp);
        (x * s, s + x * s * rest * slope * (one + R::real(3.0 * CUBIC) * a * a))
    }
}

impl Formula for Silu {
    #[inline(always)]
    fn at<R: Real>(x: R, exp: impl Fn(R) -> R) -> (R, R) {
        let (s, rest) = logistic(x, exp);
        (x * s, s * (R::real(1.0) + x * rest))
    }
}

impl Formula for Relu {
    #[inline(always)]
    fn at<R: Real>(x: R, _: impl Fn(R) -> R) -> (R, R) {
        let zero = R::default();
        (if x < zero { zero } else { x }, if x > zero { R::real(1.0) } else { zero })
    }
}
