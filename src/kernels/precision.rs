//! Mixed precision: products whose factors are rounded to half precision and whose sums are not, for GPUs with matrix units.
//!
//! Scaling keeps small numbers: a row of activations (in importances a unit's rows) is multiplied by the largest power of two
//! that keeps it in range, weights by a fixed one, and the sums by the inverses, in single precision and so exactly. The
//! powers depend on the row or the unit alone, hence not on how samples are grouped.
//!
//! Matrix units are used only after [`probe`] has seen them multiply rightly. Without them the same rounding can be emulated,
//! to judge what mixed precision does to a result, on any device.

use half::f16;

use super::linear::{mixed_importance, mixed_nn, mixed_nt, row_exponents};
use super::tile::Tile;
use super::{Accumulate, Matrix, Real, Segments, Window};
use crate::device::{Choice, Device, Features, Options, Scalar, open_with};
use crate::random::Random;
use crate::{Element, Error, Result};

/// What computes products in mixed precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Ordinary arithmetic on rounded numbers, on any device.
    Emulated,
    /// Matrix units that multiply 8 by 8 numbers (Apple).
    Matrix8,
    /// Matrix units that multiply 16 by 16 numbers (NVIDIA, AMD).
    Matrix16,
}

/// In what precision the products of linear layers are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    Full,
    /// Forward products, input gradients and importances with factors in half precision; not those of the head, whose parts
    /// depend on the memory budget (`model::head`).
    Mixed(Unit),
}

impl Precision {
    /// What computes a product with, or an importance of, a matrix of this shape in mixed precision; none where single
    /// precision is used. Small matrices are no work.
    pub(crate) fn unit(self, rows: usize, columns: usize) -> Option<Unit> {
        match self {
            Precision::Mixed(unit) if rows.min(columns) >= 64 => Some(unit),
            _ => None,
        }
    }

    /// The name in settings and files: `full`, `mixed` or `emulated`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Full => "full",
            Precision::Mixed(Unit::Emulated) => "emulated",
            Precision::Mixed(_) => "mixed",
        }
    }
}

impl Unit {
    /// All of them.
    pub const ALL: [Unit; 3] = [Unit::Emulated, Unit::Matrix8, Unit::Matrix16];

    /// The name in shader permutations.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Emulated => "emulated",
            Unit::Matrix8 => "matrix8",
            Unit::Matrix16 => "matrix16",
        }
    }

    /// The tile that a workgroup computes.
    pub(crate) fn tile(self) -> Tile {
        let side = if self == Unit::Matrix16 { 128 } else { 64 };
        Tile { name: self.name(), rows: side, columns: side }
    }

    /// Whether a device with these features has it. The shaders count on subgroups of 32.
    pub fn is_offered(self, features: &Features) -> bool {
        let side = match self {
            Unit::Emulated => return true,
            Unit::Matrix8 => 8,
            Unit::Matrix16 => 16,
        };
        features.f16 && features.subgroups == Some([32, 32]) && features.multiplies(side, Scalar::F16, Scalar::F32)
    }

    /// The fastest matrix unit of a device with these features.
    pub fn best(features: &Features) -> Option<Unit> {
        [Unit::Matrix16, Unit::Matrix8].into_iter().find(|unit| unit.is_offered(features))
    }
}

/// Opens a device for mixed precision. Where it has no matrix units that multiply rightly, the device is opened for full
/// precision, and the second value says why.
///
/// # Errors
/// When there is no such device, or it cannot be opened.
pub fn open_mixed(choice: Choice, options: &Options) -> Result<(Device, Option<String>)> {
    // On a device of its own: one whose driver rejects a shader is of no more use.
    let trial = open_with(choice, &Options { memory: None, ..options.clone() })?;
    let unit = Unit::best(trial.features());
    let refusal = match unit {
        None => Some(format!("{} offers no matrix units that efface can use", trial.name())),
        Some(unit) => {
            probe(&trial, unit).err().map(|e| format!("the matrix units of {} failed their test: {e}", trial.name()))
        }
    };
    drop(trial);
    let device = open_with(choice, options)?;
    Ok(match (unit, refusal) {
        (Some(unit), None) => (device.with_precision(Precision::Mixed(unit)), None),
        (_, refusal) => (device, refusal),
    })
}

/// The largest relative error of a product that [`probe`] accepts: sums in single precision of exact products of halves.
const PROBE_TOLERANCE: f64 = 1e-5;

/// Multiplies small matrices that tell operands, transposition and lost sums apart, and compares with the plain formula.
///
/// # Errors
/// When a product is wrong or the device failed.
pub fn probe(device: &Device, unit: Unit) -> Result<()> {
    let device = &device.with_precision(Precision::Mixed(unit));
    // With edges, and of whole tiles; deep enough for sums to be carried over many steps.
    for (tokens, rows, columns) in [(37, 75, 91), (130, 128, 256)] {
        let mut random = Random::new(tokens as u64, "the probe of matrix units");
        let mut numbers = |count: usize| -> Vec<f32> {
            (0..count).map(|_| (random.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0).collect()
        };
        let (w, right, left) = (numbers(rows * columns), numbers(tokens * columns), numbers(tokens * rows));
        let weights = device.upload_new(&w)?;
        let matrix = Matrix { buffer: &weights, element: Element::F32, rows, columns };
        let [bl, br] = [&left, &right].map(|values| device.upload_new(values));
        let (bl, br) = (bl?, br?);
        let (wl, wr) = (Window::all(&bl, rows), Window::all(&br, columns));
        let exponents = |values: &[f32], width: usize| row_exponents::of(values, tokens, width, width, 0);
        let (el, er) = (exponents(&left, rows), exponents(&right, columns));
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };

        let y = device.allocate((tokens * rows * 4) as u64)?;
        mixed_nt::run(device, unit, tokens, wr, matrix, Window::all(&y, rows), false)?;
        let mut want = vec![0.0; tokens * rows];
        let params = mixed_nt::params(tokens, wr, matrix, Window::all(&y, rows), false)?;
        mixed_nt::reference(&params, &wide(&right), &wide(&w), &mut want, &er);
        agree("X Wᵀ", &device.read(&y, want.len())?, &want)?;

        let y = device.allocate((tokens * columns * 4) as u64)?;
        mixed_nn::run(device, unit, tokens, wl, matrix, Window::all(&y, columns), false)?;
        let mut want = vec![0.0; tokens * columns];
        let params = mixed_nn::params(tokens, wl, matrix, Window::all(&y, columns), false)?;
        mixed_nn::reference(&params, &wide(&left), &wide(&w), &mut want, &el);
        agree("X W", &device.read(&y, want.len())?, &want)?;

        let offsets = [0, 1, tokens as u32 / 2, tokens as u32];
        let units = device.upload_new(&offsets)?;
        let segments = Segments::new(&units, &offsets);
        let f = device.allocate((rows * columns * 4) as u64)?;
        mixed_importance::run(device, unit, Accumulate::Square, segments, wl, wr, rows, columns, &f)?;
        let mut want = vec![0.0; rows * columns];
        let params = mixed_importance::params(segments, wl, wr, rows, columns)?;
        let how = Accumulate::Square;
        mixed_importance::reference(&params, how, &offsets, &wide(&left), &wide(&right), &el, &er, &mut want);
        agree("an importance", &device.read(&f, want.len())?, &want)?;
    }
    Ok(())
}

fn agree(what: &str, got: &[f32], want: &[f64]) -> Result<()> {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let error = square(&mut got.iter().zip(want).map(|(got, want)| f64::from(*got) - want)).sqrt();
    let relative = error / square(&mut want.iter().copied()).sqrt();
    // Not a number is not in the range either.
    if (0.0..=PROBE_TOLERANCE).contains(&relative) {
        return Ok(());
    }
    Err(Error::Device(format!("{what} is off by {relative:.1e} of itself")))
}

/// The nearest number of half precision.
pub(crate) fn half<R: Real>(value: R) -> R {
    R::real(f16::from_f64(value.wide()).to_f64())
}

/// 2 to this power, which is from -126 to 127.
pub(crate) fn power(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// Rounds numbers to half precision as if they were multiplied by 2^`exponent` before and divided after.
pub(crate) fn round_scaled(values: &mut [f32], exponent: i32) {
    let (scale, inverse) = (power(exponent), power(-exponent));
    values.iter_mut().for_each(|v| *v = f16::from_f32(*v * scale).to_f32() * inverse);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MatrixProduct;

    #[test]
    fn the_twin_and_the_emulation_pass_the_probe() {
        probe(&Device::cpu(u64::MAX), Unit::Emulated).unwrap();
    }

    #[test]
    fn wrong_products_fail_the_probe() {
        let want = [1.0, 2.0, -3.0];
        assert!(agree("a product", &[1.0, 2.0, -3.0], &want).is_ok());
        for got in [[2.0, 1.0, -3.0], [1.0, 2.0, f32::NAN], [1.0, 2.0, f32::INFINITY], [0.0; 3], [1.0, 2.002, -3.0]] {
            assert!(agree("a product", &got, &want).unwrap_err().to_string().contains("a product"), "{got:?}");
        }
        assert!(agree("a product", &[0.0], &[0.0]).is_err());
    }

    #[test]
    fn matrix_units_are_taken_only_where_all_they_need_is_there() {
        let product = |side, sum| MatrixProduct { m: side, n: side, k: side, factors: Scalar::F16, sum };
        let offered = Features {
            f16: true,
            subgroups: Some([32, 32]),
            matrices: vec![product(8, Scalar::F32), product(16, Scalar::F32)],
            ..Features::default()
        };
        assert_eq!(Unit::best(&offered), Some(Unit::Matrix16));
        assert_eq!(
            Unit::best(&Features { matrices: vec![product(8, Scalar::F32)], ..offered.clone() }),
            Some(Unit::Matrix8)
        );
        for lacking in [
            Features { f16: false, ..offered.clone() },
            Features { subgroups: Some([32, 64]), ..offered.clone() },
            Features { subgroups: None, ..offered.clone() },
            Features { matrices: vec![product(16, Scalar::F16)], ..offered.clone() },
            Features::default(),
        ] {
            assert_eq!(Unit::best(&lacking), None, "{lacking:?}");
        }
    }

    #[test]
    fn small_matrices_stay_in_single_precision() {
        let mixed = Precision::Mixed(Unit::Emulated);
        assert_eq!(mixed.unit(64, 64), Some(Unit::Emulated));
        assert_eq!(mixed.unit(63, 640), None);
        assert_eq!(Precision::Full.unit(640, 640), None);
    }
}
