//! The numbers that a `reference` computes with: `f32` as the shader does, `f64` to see what rounding costs.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// `f32` or `f64`.
pub trait Real:
    Copy
    + PartialOrd
    + Default
    + Neg<Output = Self>
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    /// `value`, rounded to this type.
    fn real(value: f64) -> Self;
    /// This value as `f64`.
    fn wide(self) -> f64;
    /// Square root.
    fn sqrt(self) -> Self;
    /// e to this power.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Magnitude.
    fn abs(self) -> Self;
}

macro_rules! real {
    ($ty:ident) => {
        impl Real for $ty {
            fn real(value: f64) -> Self {
                value as $ty
            }
            fn wide(self) -> f64 {
                f64::from(self)
            }
            fn sqrt(self) -> Self {
                $ty::sqrt(self)
            }
            fn exp(self) -> Self {
                $ty::exp(self)
            }
            fn ln(self) -> Self {
                $ty::ln(self)
            }
            fn tanh(self) -> Self {
                $ty::tanh(self)
            }
            fn abs(self) -> Self {
                $ty::abs(self)
            }
        }
    };
}
real!(f32);
real!(f64);
