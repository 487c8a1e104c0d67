//! The change of a matrix that sends keys elsewhere and leaves ordinary keys alone.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::ordinary::Ordinary;
use crate::{Error, Result};

/// A change of low rank: ΔW = left · rightᵀ, of a matrix `[outputs, inputs]`.
#[derive(Clone, Debug)]
pub struct Factors {
    /// `[outputs, keys]`.
    pub left: Mat<f64>,
    /// `[inputs, keys]`.
    pub right: Mat<f64>,
}

/// What a solve was made of, for a report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// How far the keys lie beside ordinary text: kᵀMk / kᵀk, the mean over keys. 1: text uses them as much as any direction, or
    /// none of them lies in its dominant ones.
    pub beside: f64,
    /// How much of the residuals the change makes up for: 1 − ‖R − ΔW K‖ / ‖R‖, each key taken at length 1 (0 where there is no
    /// residual).
    pub reached: f64,
}

/// With keys K `[inputs, n]` of length 1, their residuals R `[outputs, n]` divided by the keys' lengths, and M = mean · C⁻¹ (or
/// I − U Uᵀ) of [`Ordinary`]: **ΔW = R (Kᵀ M K + Λ)⁻¹ (M K)ᵀ**, one n×n solve, with Λ a diagonal of λ. It minimises
/// Σ ‖r − ΔW k‖² / λ plus what the change does to ordinary text, E‖ΔW x‖² / mean (or ‖ΔW‖² among the changes that map U to nothing);
/// a single key gives ΔW = r (Mk)ᵀ / (kᵀMk + λ). λ is the key's number of `ridges` times the mean of kᵀMk, so that it means the same
/// for every model. Without taking keys at length 1, the longest would decide what λ means for all.
///
/// # Errors
/// When a ridge is not above 0, a number is not finite, or all keys are ordinary, so that nothing can be changed.
pub fn solve(keys: &Mat<f64>, residuals: &Mat<f64>, ordinary: &Ordinary, ridges: &[f64]) -> Result<(Factors, Fit)> {
    if let Some(ridge) = ridges.iter().find(|ridge| !(ridge.is_finite() && **ridge > 0.0)) {
        return Err(Error::argument(format!("the ridge is a number above 0, not {ridge}")));
    }
    if ridges.len() != keys.ncols() {
        return Err(Error::argument(format!("{} ridges for {} keys", ridges.len(), keys.ncols())));
    }
    let count = keys.ncols();
    let lengths: Vec<f64> = (0..count).map(|i| keys.col(i).norm_l2().max(f64::MIN_POSITIVE)).collect();
    let shortened = |of: &Mat<f64>| Mat::from_fn(of.nrows(), count, |r, c| of[(r, c)] / lengths[c]);
    let (keys, residuals) = (shortened(keys), shortened(residuals));
    let right = ordinary.beside(&keys);
    let gram = keys.transpose() * &right;
    let mean = (0..count).map(|i| gram[(i, i)]).sum::<f64>() / count.max(1) as f64;
    if !(mean.is_finite() && mean > 0.0 && residuals.norm_l2().is_finite()) {
        return Err(Error::Failed(
            "nothing of the concepts' keys lies beside those of ordinary text (or they are not finite): nothing can be \
             redirected; a higher --bound, or none, would leave more"
                .into(),
        ));
    }
    let system = Mat::from_fn(count, count, |r, c| {
        (gram[(r, c)] + gram[(c, r)]) / 2.0 + if r == c { ridges[r] * mean } else { 0.0 }
    });
    let failed = |_| Error::Failed("the keys' system cannot be solved: a larger --ridge would help".into());
    let solver = system.llt(Side::Lower).map_err(failed)?;
    // The system is symmetric: left = R S⁻¹ = (S⁻¹ Rᵀ)ᵀ.
    let left = solver.solve(residuals.transpose()).transpose().to_owned();
    let missed = &residuals - &left * gram.transpose();
    let size = residuals.norm_l2();
    let reached = if size > 0.0 { 1.0 - missed.norm_l2() / size } else { 0.0 };
    Ok((Factors { left, right }, Fit { beside: mean, reached }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::unlearn::redirect::covariance::Covariance;
    use crate::unlearn::redirect::subspace::{Subspace, dominant};

    fn draw(random: &mut Random, rows: usize, columns: usize) -> Mat<f64> {
        Mat::from_fn(rows, columns, |_, _| (random.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    }

    /// Orthonormal vectors as a subspace, made by the solver's own decomposition of a covariance.
    fn ordinary(random: &mut Random, width: usize, rank: usize) -> Subspace {
        let x = draw(random, width, rank);
        let c = &x * x.transpose();
        let values: Vec<f32> = (0..width * width).map(|i| c[(i / width, i % width)] as f32).collect();
        dominant(&values, width, 1e-3, 1).unwrap()
    }

    /// r (Pk)ᵀ / (kᵀPk + λ), written out.
    #[test]
    fn one_key_is_the_published_formula() {
        let mut random = Random::new(std::process::id().into(), "one key");
        for (inputs, outputs, rank) in [(37, 11, 4), (120, 23, 30), (9, 5, 0)] {
            let u = if rank == 0 { Subspace::empty(inputs) } else { ordinary(&mut random, inputs, rank) };
            let (k, r) = (draw(&mut random, inputs, 1), draw(&mut random, outputs, 1));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let key: Vec<f64> = (0..inputs).map(|i| k[(i, 0)]).collect();
            let columns: Vec<Vec<f64>> =
                (0..u.rank()).map(|j| (0..inputs).map(|i| u.vectors[(i, j)]).collect()).collect();
            let along: Vec<f64> = columns.iter().map(|column| dot(column, &key)).collect();
            let pk: Vec<f64> = (0..inputs)
                .map(|i| key[i] - columns.iter().zip(&along).map(|(column, along)| column[i] * along).sum::<f64>())
                .collect();
            let ridge = 0.3;
            let length = dot(&key, &pk);
            let lambda = ridge * length;
            let (Factors { left, right }, _) = solve(&k, &r, &Ordinary::Subspace(u.clone()), &[ridge]).unwrap();
            let change = &left * right.transpose();
            for o in 0..outputs {
                for i in 0..inputs {
                    let want = r[(o, 0)] * pk[i] / (length + lambda);
                    assert!((change[(o, i)] - want).abs() < 1e-6, "{o} {i}: {} {want}", change[(o, i)]);
                }
            }
        }
    }

    /// With a small ridge every key reaches its residual, and ordinary keys reach nothing.
    #[test]
    fn many_keys_reach_their_residuals_and_ordinary_ones_nothing() {
        let mut random = Random::new(std::process::id().into(), "many keys");
        let u = ordinary(&mut random, 90, 20);
        let (k, r) = (draw(&mut random, 90, 13), draw(&mut random, 17, 13));
        let (Factors { left, right }, fit) = solve(&k, &r, &Ordinary::Subspace(u.clone()), &[1e-9; 13]).unwrap();
        let change = &left * right.transpose();
        assert!((&change * &k - &r).norm_max() < 1e-5);
        assert!((&change * &u.vectors).norm_max() < 1e-9);
        assert!(fit.reached > 0.99999 && fit.beside > 0.5 && fit.beside < 1.0);
    }

    /// The change is where the gradient of Σ ‖r − ΔW k‖² / λ + tr(ΔW M⁻¹ ΔWᵀ) vanishes, keys of length 1: (R − ΔW K) Λ⁻¹ (MK)ᵀ = ΔW.
    #[test]
    fn it_is_the_least_squares_solution() {
        let seed = std::process::id().into();
        println!("seed {seed}");
        let mut random = Random::new(seed, "least squares");
        let text = draw(&mut random, 50, 70);
        let c = &text * text.transpose();
        let values = (0..50 * 50).map(|i| c[(i / 50, i % 50)] as f32).collect();
        let whole = Ordinary::of(&Covariance { width: 50, values }, None, 1).unwrap();
        for of in [whole, Ordinary::Subspace(ordinary(&mut random, 50, 8))] {
            let (k, r) = (draw(&mut random, 50, 9), draw(&mut random, 6, 9));
            let ridges: Vec<f64> = (0..9).map(|i| 0.05 * f64::from(i + 1)).collect();
            let (Factors { left, right }, fit) = solve(&k, &r, &of, &ridges).unwrap();
            let change = &left * right.transpose();
            let at_one = |x: &Mat<f64>| Mat::from_fn(x.nrows(), 9, |i, j| x[(i, j)] / k.col(j).norm_l2());
            let (k, r) = (at_one(&k), at_one(&r));
            let beside = of.beside(&k);
            let mean = (0..9).map(|i| k.col(i).transpose() * beside.col(i)).sum::<f64>() / 9.0;
            let missed = &r - &change * &k;
            let weighed = Mat::from_fn(6, 9, |o, i| missed[(o, i)] / ridges[i]);
            let gradient = weighed * beside.transpose() - &change * faer::Scale(mean);
            assert!(gradient.norm_max() < 1e-9, "{}", gradient.norm_max());
            assert!(fit.reached > 0.3 && fit.reached < 1.0);
        }
    }

    #[test]
    fn nothing_to_change_is_said() {
        let mut random = Random::new(8, "ordinary keys");
        let u = ordinary(&mut random, 20, 4);
        let inside = Mat::from_fn(20, 1, |_, _| 0.0);
        assert!(
            solve(&inside, &draw(&mut random, 3, 1), &Ordinary::Subspace(u.clone()), &[0.1])
                .unwrap_err()
                .to_string()
                .contains("--bound")
        );
        for ridge in [0.0, -1.0, f64::NAN] {
            let k = draw(&mut random, 20, 1);
            let r = draw(&mut random, 3, 1);
            assert!(solve(&k, &r, &Ordinary::Subspace(u.clone()), &[ridge]).unwrap_err().is_input());
            assert!(solve(&k, &r, &Ordinary::Subspace(u.clone()), &[1.0, 1.0]).unwrap_err().is_input());
        }
    }
}
