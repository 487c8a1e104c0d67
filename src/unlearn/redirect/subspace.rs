//! The dominant subspace of a covariance: the eigenvectors with an eigenvalue above a bound, without a full decomposition.

use faer::{Mat, MatRef, Side};

use crate::random::Random;
use crate::{Error, Result};

/// Vectors that the iteration begins with.
const FIRST_BLOCK: usize = 32;
/// A block of more than this share of the matrix is not worth iterating: the matrix is decomposed.
const LARGEST_SHARE: usize = 4;
/// The largest residual ‖C u − θ u‖ of a vector, as a share of the bound.
const TOLERANCE: f64 = 1e-4;
/// Iterations after which the matrix is decomposed.
const MOST_ITERATIONS: usize = 100;
/// Rows of C that are widened at a time.
const BAND: usize = 256;

/// Eigenvectors with their eigenvalues.
#[derive(Clone, Debug)]
pub struct Subspace {
    /// Orthonormal columns, `[width, rank]`.
    pub vectors: Mat<f64>,
    /// Descending.
    pub values: Vec<f64>,
}

impl Subspace {
    /// The subspace of nothing.
    pub fn empty(width: usize) -> Self {
        Subspace { vectors: Mat::zeros(width, 0), values: Vec::new() }
    }

    /// How many vectors there are.
    pub fn rank(&self) -> usize {
        self.values.len()
    }

    /// Takes out of the columns of `x` what lies in the subspace: (I − U Uᵀ) x.
    pub fn project_out(&self, x: &Mat<f64>) -> Mat<f64> {
        x - &self.vectors * (self.vectors.transpose() * x)
    }
}

/// The eigenvectors of the symmetric `matrix` `[width, width]`, positive semidefinite, with an eigenvalue of at least `bound`:
/// by block subspace iteration with Rayleigh-Ritz, from random vectors of the `seed`. The block grows until it reaches below
/// half of the bound, so that what is wanted shrinks its error at least by half in every iteration.
///
/// # Errors
/// When the bound is not above 0 or the decomposition does not converge.
pub fn dominant(matrix: &[f32], width: usize, bound: f64, seed: u64) -> Result<Subspace> {
    if !(bound.is_finite() && bound > 0.0) {
        return Err(Error::argument(format!("an eigenvalue's bound is a number above 0, not {bound}")));
    }
    let mut random = Random::new(seed, "subspace");
    let mut basis = orthonormal(&random_columns(&mut random, width, FIRST_BLOCK.min(width)));
    for _ in 0..MOST_ITERATIONS {
        let block = basis.ncols();
        if block * LARGEST_SHARE > width {
            break;
        }
        let image = times(matrix, width, basis.as_ref());
        let (values, rotation) = eigen(&(basis.transpose() * &image))?;
        let (vectors, image) = (&basis * &rotation, &image * &rotation);
        let wanted = values.iter().take_while(|value| **value >= bound).count();
        let residual = |i: usize| {
            let entries = (0..width).map(|r| image[(r, i)] - values[i] * vectors[(r, i)]);
            entries.map(|entry| entry * entry).sum::<f64>().sqrt()
        };
        let reaches_below = values[block - 1] < bound / 2.0;
        // A vector just below the bound may still rise above it: it must have settled as well.
        let settled = |i: usize| residual(i) <= TOLERANCE * bound;
        if reaches_below && (0..(wanted + 1).min(block)).all(settled) {
            return Ok(Subspace { vectors: vectors.subcols(0, wanted).to_owned(), values: values[..wanted].to_vec() });
        }
        basis = match reaches_below {
            true => orthonormal(&image),
            false => {
                let more = random_columns(&mut random, width, block);
                let wider = Mat::from_fn(width, 2 * block, |r, c| {
                    // Both halves of a length, for the orthonormalisation's sake.
                    if c < block { image[(r, c)] / values[c].max(bound) } else { more[(r, c - block)] }
                });
                orthonormal(&wider)
            }
        };
    }
    decomposed(matrix, width, bound)
}

/// By full decomposition.
fn decomposed(matrix: &[f32], width: usize, bound: f64) -> Result<Subspace> {
    let whole = Mat::from_fn(width, width, |r, c| f64::from(matrix[r * width + c]));
    let (values, vectors) = eigen(&whole)?;
    let wanted = values.iter().take_while(|value| **value >= bound).count();
    Ok(Subspace { vectors: vectors.subcols(0, wanted).to_owned(), values: values[..wanted].to_vec() })
}

/// Eigenvalues, descending, and eigenvectors of a symmetric matrix.
fn eigen(matrix: &Mat<f64>) -> Result<(Vec<f64>, Mat<f64>)> {
    let count = matrix.nrows();
    let failed = |_| Error::Failed("the eigenvalues of a covariance do not converge".into());
    let found = matrix.self_adjoint_eigen(Side::Lower).map_err(failed)?;
    let values = (0..count).rev().map(|i| found.S()[i]).collect();
    Ok((values, Mat::from_fn(count, count, |r, c| found.U()[(r, count - 1 - c)])))
}

fn orthonormal(columns: &Mat<f64>) -> Mat<f64> {
    columns.qr().compute_thin_Q()
}

fn random_columns(random: &mut Random, rows: usize, columns: usize) -> Mat<f64> {
    Mat::from_fn(rows, columns, |_, _| (random.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
}

/// The product with C, which is widened a band of rows at a time.
fn times(matrix: &[f32], width: usize, x: MatRef<'_, f64>) -> Mat<f64> {
    let mut product = Mat::zeros(width, x.ncols());
    for first in (0..width).step_by(BAND) {
        let rows = BAND.min(width - first);
        // Row-major rows are the columns of a transpose, which reads them in order.
        let band = Mat::from_fn(width, rows, |c, r| f64::from(matrix[(first + r) * width + c]));
        product.subrows_mut(first, rows).copy_from(band.transpose() * x);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A covariance with these eigenvalues: Q diag(values) Qᵀ.
    fn covariance(values: &[f64], seed: u64) -> Vec<f32> {
        let width = values.len();
        let q = orthonormal(&random_columns(&mut Random::new(seed, "q"), width, width));
        let scaled = Mat::from_fn(width, width, |r, c| q[(r, c)] * values[c]);
        let whole = scaled * q.transpose();
        let at = |i: usize| ((whole[(i / width, i % width)] + whole[(i % width, i / width)]) / 2.0) as f32;
        (0..width * width).map(at).collect()
    }

    /// The largest element of U Uᵀ − V Vᵀ.
    fn distance(a: &Subspace, b: &Subspace) -> f64 {
        let difference = &a.vectors * a.vectors.transpose() - &b.vectors * b.vectors.transpose();
        difference.norm_max()
    }

    #[test]
    fn iteration_finds_what_the_full_decomposition_finds() {
        let seed = std::process::id().into();
        println!("seed {seed}");
        let mut random = Random::new(seed, "spectra");
        for decay in [0.7, 0.9, 0.97] {
            let width = 280 + random.below(60);
            // One eigenvalue far above the rest, as attention sinks make it, and a gap around the bound.
            let values: Vec<f64> = (0..width)
                .map(|i| if i == 0 { 1e5 } else { 8.0 * f64::powi(decay, i as i32) })
                .map(|value: f64| if value >= 1.0 { value * 1.1 } else { value * 0.9 })
                .collect();
            let matrix = covariance(&values, seed);
            let (found, full) = (dominant(&matrix, width, 1.0, 7).unwrap(), decomposed(&matrix, width, 1.0).unwrap());
            let expected = values.iter().filter(|value| **value >= 1.0).count();
            assert_eq!([found.rank(), full.rank()], [expected; 2], "decay {decay}");
            assert!(distance(&found, &full) < 1e-3, "decay {decay}: {}", distance(&found, &full));
            let identity = found.vectors.transpose() * &found.vectors - Mat::<f64>::identity(expected, expected);
            assert!(identity.norm_max() < 1e-12);
            for (found, full) in found.values.iter().zip(&full.values) {
                assert!((found - full).abs() <= 1e-6 * full, "{found} {full}");
            }
        }
    }

    #[test]
    fn projecting_out_leaves_nothing_in_the_subspace_and_all_beside_it() {
        let values: Vec<f64> = (0..60).map(|i| if i < 5 { 10.0 } else { 0.1 }).collect();
        let found = dominant(&covariance(&values, 3), 60, 1.0, 1).unwrap();
        assert_eq!(found.rank(), 5);
        let x = random_columns(&mut Random::new(4, "x"), 60, 3);
        let left = found.project_out(&x);
        assert!((found.vectors.transpose() * &left).norm_max() < 1e-10);
        assert!((&left - found.project_out(&left)).norm_max() < 1e-10);
        assert!(left.norm_l2() > 0.5 * x.norm_l2());
    }

    #[test]
    fn a_bound_above_everything_leaves_an_empty_subspace() {
        let values: Vec<f64> = (0..150).map(|i| 1.0 / f64::from(i + 1)).collect();
        let found = dominant(&covariance(&values, 5), 150, 2.0, 1).unwrap();
        assert_eq!((found.rank(), found.vectors.nrows()), (0, 150));
        for bound in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(dominant(&covariance(&values, 5), 150, bound, 1).unwrap_err().is_input());
        }
    }
}
