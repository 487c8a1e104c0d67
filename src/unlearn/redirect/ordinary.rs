//! What ordinary text uses of a layer's inputs, and how much of a key lies beside it.

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, Side};

use super::covariance::Covariance;
use super::subspace::{Subspace, dominant};
use crate::{Error, Result};

/// What is added to every eigenvalue, as a share of their mean: text that is short leaves directions that it never uses.
const FLOOR: f64 = 0.01;

/// What ordinary text uses, with covariance C = E\[kkᵀ\].
#[derive(Clone, Debug)]
pub enum Ordinary {
    /// All of C: a direction counts the more, the more text uses it (as in ROME and MEMIT).
    Covariance {
        /// C, with a floor, decomposed.
        factor: Llt<f64>,
        /// The mean of its eigenvalues.
        mean: f64,
    },
    /// Its dominant eigenvectors, which are left alone, and nothing else (as in ROCR).
    Subspace(Subspace),
}

impl Ordinary {
    /// Of a layer's covariance: all of it or, with a `bound`, the eigenvectors with at least so many times the mean eigenvalue,
    /// found by an iteration that begins with `seed`. A covariance of zeros is of no text: nothing is ordinary.
    ///
    /// # Errors
    /// When the bound is not above 0, or the covariance cannot be decomposed.
    pub fn of(covariance: &Covariance, bound: Option<f64>, seed: u64) -> Result<Self> {
        let Covariance { width, values } = covariance;
        let trace: f64 = (0..*width).map(|i| f64::from(values[i * (width + 1)])).sum();
        let mean = trace / *width as f64;
        if mean.is_nan() || mean <= 0.0 {
            return Ok(Ordinary::Subspace(Subspace::empty(*width)));
        }
        if let Some(bound) = bound {
            return Ok(Ordinary::Subspace(dominant(values, *width, bound * mean, seed)?));
        }
        let whole = Mat::from_fn(*width, *width, |r, c| {
            f64::from(values[r * width + c]) + if r == c { FLOOR * mean } else { 0.0 }
        });
        let failed = |_| Error::Failed("the covariance of the text is not positive: it cannot be decomposed".into());
        Ok(Ordinary::Covariance { factor: whole.llt(Side::Lower).map_err(failed)?, mean })
    }

    /// How many directions are left alone altogether.
    pub fn rank(&self) -> usize {
        match self {
            Ordinary::Covariance { .. } => 0,
            Ordinary::Subspace(subspace) => subspace.rank(),
        }
    }

    /// M k for every column k `[width, n]`: mean · C⁻¹, or I − U Uᵀ. A direction that text uses as much as any other stays as
    /// long as it is.
    pub fn beside(&self, keys: &Mat<f64>) -> Mat<f64> {
        match self {
            Ordinary::Covariance { factor, mean } => factor.solve(keys) * faer::Scale(*mean),
            Ordinary::Subspace(subspace) => subspace.project_out(keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// (C + floor) M k = mean k, with C made of random tokens, fewer than the width in one of the two cases.
    #[test]
    fn all_of_a_covariance_is_inverted() {
        let seed = u64::from(std::process::id());
        println!("seed {seed}");
        let mut random = Random::new(seed, "ordinary");
        for (width, tokens) in [(37, 190), (53, 20)] {
            let mut draw = |rows: usize, columns: usize| {
                Mat::from_fn(rows, columns, |_, _| (random.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
            };
            let (text, keys) = (draw(width, tokens), draw(width, 3));
            let c = &text * text.transpose();
            let values: Vec<f32> = (0..width * width)
                .map(|i| (i / width, i % width))
                .map(|(a, b)| c[(a.max(b), a.min(b))] as f32)
                .collect();
            let stored = Mat::from_fn(width, width, |r, c| f64::from(values[r * width + c]));
            let mean = (0..width).map(|i| stored[(i, i)]).sum::<f64>() / width as f64;
            let moved = Ordinary::of(&Covariance { width, values }, None, 1).unwrap().beside(&keys);
            let back = &stored * &moved + &moved * faer::Scale(FLOOR * mean);
            assert!((back - &keys * faer::Scale(mean)).norm_max() < 1e-9 * mean, "{width} {tokens}");
        }
    }

    /// What text uses a hundred times as much is a hundred times as short.
    #[test]
    fn a_direction_counts_as_much_as_text_uses_it() {
        let values = (0..16).map(|i| if i % 5 == 0 { [100.0, 1.0, 1.0, 1.0][i / 5] } else { 0.0 }).collect();
        let ordinary = Ordinary::of(&Covariance { width: 4, values }, None, 1).unwrap();
        let moved = ordinary.beside(&Mat::from_fn(4, 1, |_, _| 1.0));
        let floor = FLOOR * 103.0 / 4.0;
        assert!((moved[(1, 0)] / moved[(0, 0)] - (100.0 + floor) / (1.0 + floor)).abs() < 1e-9);
        assert_eq!(ordinary.rank(), 0);
    }

    #[test]
    fn without_text_nothing_is_ordinary() {
        let ordinary = Ordinary::of(&Covariance { width: 3, values: vec![0.0; 9] }, None, 1).unwrap();
        let keys = Mat::from_fn(3, 2, |r, c| (r + 2 * c) as f64);
        assert!((ordinary.beside(&keys) - &keys).norm_max() == 0.0);
    }
}
