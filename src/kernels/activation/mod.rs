//! Kernels of the activation functions, plain and gated.

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
    /// `x Φ(x)` (Hendrycks and Gimpel 2016), with the error function.
    Gelu,
    /// Its approximation by tanh: GPT-2's `gelu_new`.
    GeluTanh,
    /// `x σ(x)`.
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

    fn variant(self) -> String {
        format!("ACTIVATION={}", self.name())
    }

    /// The function's value.
    pub fn value<R: Real>(self, x: R) -> R {
        let (half, one) = (R::real(0.5), R::real(1.0));
        match self {
            Activation::Gelu => half * x * (one + erf(x * R::real(std::f64::consts::FRAC_1_SQRT_2))),
            Activation::GeluTanh => half * x * (one + inner(x)),
            Activation::Silu => x * sigmoid(x),
            Activation::Relu => {
                if x > R::default() {
                    x
                } else {
                    R::default()
                }
            }
        }
    }

    /// The function's derivative.
    pub fn slope<R: Real>(self, x: R) -> R {
        let (half, one) = (R::real(0.5), R::real(1.0));
        match self {
            Activation::Gelu => {
                let density = R::real(1.0 / std::f64::consts::TAU.sqrt()) * (-half * x * x).exp();
                half * (one + erf(x * R::real(std::f64::consts::FRAC_1_SQRT_2))) + x * density
            }
            Activation::GeluTanh => {
                let t = inner(x);
                let inner_slope = R::real(SQRT_2_OVER_PI) * (one + R::real(3.0 * CUBIC) * x * x);
                half * (one + t) + half * x * (one - t * t) * inner_slope
            }
            Activation::Silu => {
                let s = sigmoid(x);
                s * (one + x * (one - s))
            }
            Activation::Relu => {
                if x > R::default() {
                    one
                } else {
                    R::default()
                }
            }
        }
    }
}

const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const CUBIC: f64 = 0.044_715;

fn inner<R: Real>(x: R) -> R {
    (R::real(SQRT_2_OVER_PI) * (x + R::real(CUBIC) * x * x * x)).tanh()
}

fn sigmoid<R: Real>(x: R) -> R {
    R::real(1.0) / (R::real(1.0) + (-x).exp())
}

/// The error function: its Taylor series (Abramowitz and Stegun 7.1.5) below 0.5; beyond, 1 − erfc by the Chebyshev fit of
/// Numerical Recipes, whose relative error is below 1.2e-7.
fn erf<R: Real>(x: R) -> R {
    const SERIES: [f64; 7] = [1.0, -1.0 / 3.0, 1.0 / 10.0, -1.0 / 42.0, 1.0 / 216.0, -1.0 / 1320.0, 1.0 / 9360.0];
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let polynomial = |coefficients: &[f64], t: R| {
        coefficients.iter().rev().fold(R::default(), |sum, coefficient| sum * t + R::real(*coefficient))
    };
    let a = x.abs();
    if a < R::real(0.5) {
        return R::real(std::f64::consts::FRAC_2_SQRT_PI) * x * polynomial(&SERIES, a * a);
    }
    let t = R::real(1.0) / (R::real(1.0) + R::real(0.5) * a);
    let tail = t * (-a * a + polynomial(&FIT, t)).exp();
    if x > R::default() { R::real(1.0) - tail } else { tail - R::real(1.0) }
}

/// Pieces that one thread works on.
const PIECE: usize = 1 << 13;
