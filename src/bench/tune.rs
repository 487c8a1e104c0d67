//! Trying every variant of the kernels that have several, and keeping for each class of shapes the fastest one that is right.

use std::collections::BTreeMap;

use super::{Accuracy, Case, timing};
use crate::device::Device;
use crate::kernels::tuning::{Problem, Tuning, candidates};
use crate::{Error, Result};

/// What a variant must save to be taken instead of the one that is taken already: less than this, and the clock decides.
const LEAST_GAIN: f64 = 0.03;

/// What one class of shapes came to.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Tuned {
    /// Kernel, element type, and the powers of two of the result's sides: what the cases have in common.
    pub class: String,
    /// The cases, by model, problem and tokens.
    pub cases: Vec<String>,
    /// The variant that an earlier tuning had chosen; none where a rule chooses.
    pub before: Option<&'static str>,
    /// Seconds of one launch of each case with what is taken without this tuning.
    pub seconds: f64,
    /// The variants, each on all cases.
    pub tried: Vec<Tried>,
    /// The variant to be taken from now on; none where it stays as it was.
    pub taken: Option<&'static str>,
}

/// A variant on all cases of a class.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Tried {
    /// Its name.
    pub variant: &'static str,
    /// Seconds of one launch of each case.
    pub seconds: f64,
    /// Of the case whose result is furthest off.
    pub accuracy: Accuracy,
}

impl Tuned {
    /// Decides: the fastest variant that is right, if it gains enough.
    fn decide(&mut self) {
        let right = self.tried.iter().filter(|tried| tried.accuracy.passes());
        let fastest = right.min_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let gains = fastest.filter(|fastest| fastest.seconds < self.seconds * (1.0 - LEAST_GAIN));
        self.taken = gains.map(|fastest| fastest.variant).filter(|variant| self.before != Some(*variant));
    }

    /// Seconds of one launch of each case from now on.
    pub fn seconds_after(&self) -> f64 {
        let taken = self.tried.iter().find(|tried| Some(tried.variant) == self.taken);
        taken.map_or(self.seconds, |tried| tried.seconds)
    }

    /// Variants that gave a wrong result.
    pub fn wrong(&self) -> impl Iterator<Item = &Tried> {
        self.tried.iter().filter(|tried| !tried.accuracy.passes())
    }

    /// One more case of the class.
    fn add(&mut self, other: Tuned) {
        self.seconds += other.seconds;
        self.cases.extend(other.cases);
        for (tried, other) in self.tried.iter_mut().zip(other.tried) {
            tried.seconds += other.seconds;
            let share = |accuracy: Accuracy| accuracy.error / accuracy.tolerance;
            // Not a number is further off than any.
            if share(other.accuracy).is_nan() || share(other.accuracy) > share(tried.accuracy) {
                tried.accuracy = other.accuracy;
            }
        }
    }
}

/// Whether there is something to choose for a case's kernel.
pub fn has_variants(case: &Case) -> bool {
    !candidates(case.kernel).is_empty()
}

/// Tries all variants on one case, for about `seconds` each. None where the device chooses none of them, as the CPU does.
///
/// # Errors
/// When the device has no room for it or failed. A wrong result is no error.
pub fn try_variants(device: &Device, case: &Case, seconds: f64, seed: u64) -> Result<Option<(Problem, Tuned)>> {
    if device.is_cpu() {
        return Ok(None);
    }
    let (mut tried, mut problem) = (Vec::new(), None);
    for variant in candidates(case.kernel) {
        let forced = device.with_tuning(device.tuning().forced(case.kernel, variant)?);
        let prepared = case.prepare(&forced, seed)?;
        prepared.launch()?;
        device.synchronize()?;
        let accuracy = prepared.check()?;
        let seconds = timing::of(&forced, seconds, || prepared.launch())?.median;
        tried.push(Tried { variant, seconds, accuracy });
        problem = match forced.tuning().answered().as_slice() {
            [problem] => Some(*problem),
            [] => return Ok(None),
            several => return Err(Error::Failed(format!("{case:?} launches its kernel for {several:?}"))),
        };
        drop(prepared);
        device.free_scratch();
    }
    let Some(problem) = problem else { return Ok(None) };
    let prepared = case.prepare(device, seed)?;
    let seconds = timing::of(device, seconds, || prepared.launch())?.median;
    let tuned = Tuned {
        class: problem.class(),
        cases: vec![format!("{} {} x {}", case.model, case.problem, case.tokens)],
        before: device.tuning().measured(&problem),
        seconds,
        tried,
        taken: None,
    };
    Ok(Some((problem, tuned)))
}

/// Puts what was tried together by classes, and chooses. Returns the device's tuning with what is to be taken.
///
/// # Errors
/// None that a caller can cause: the variants are those of the kernels.
pub fn choose(device: &Device, all: Vec<(Problem, Tuned)>) -> Result<(Tuning, Vec<Tuned>)> {
    let mut classes: BTreeMap<String, (Problem, Tuned)> = BTreeMap::new();
    for (problem, tuned) in all {
        match classes.get_mut(&tuned.class) {
            Some((_, of_class)) => of_class.add(tuned),
            None => drop(classes.insert(tuned.class.clone(), (problem, tuned))),
        }
    }
    let mut tuning = device.tuning().clone();
    let mut decided = Vec::new();
    for (problem, mut tuned) in classes.into_values() {
        tuned.decide();
        if let Some(variant) = tuned.taken {
            tuning.set(&problem, variant)?;
        }
        decided.push(tuned);
    }
    Ok((tuning, decided))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Element;
    use crate::kernels::linear::matmul_nt;

    fn tuned(before: Option<&'static str>, seconds: f64, tried: &[(&'static str, f64, f64)]) -> (Problem, Tuned) {
        let problem = Problem { kernel: matmul_nt::KERNEL.name, element: Some(Element::F32), rows: 64, columns: 600 };
        let of = |(variant, seconds, error): &(&'static str, f64, f64)| Tried {
            variant,
            seconds: *seconds,
            accuracy: Accuracy { error: *error, tolerance: 1e-5, compared: 9 },
        };
        let tried = tried.iter().map(of).collect();
        let cases = vec!["a case".to_string()];
        (problem, Tuned { class: problem.class(), cases, before, seconds, tried, taken: None })
    }

    #[test]
    fn the_fastest_right_variant_is_kept_for_a_class() {
        let device = Device::cpu(u64::MAX);
        // Wrong in the second case, and so in the class, however fast it is.
        let first = tuned(None, 4.0, &[("128", 1.0, 1e-7), ("64", 3.0, 1e-7), ("32", 4.0, 0.0)]);
        let second = tuned(None, 4.0, &[("128", 1.0, 1e-3), ("64", 2.0, 0.0), ("32", 3.0, 0.0)]);
        let problem = first.0;
        let (tuning, classes) = choose(&device, vec![first, second]).unwrap();
        assert_eq!(tuning.measured(&problem), Some("64"));
        assert_eq!((classes.len(), classes[0].taken, classes[0].seconds_after()), (1, Some("64"), 5.0));
        assert_eq!(classes[0].wrong().map(|tried| tried.variant).collect::<Vec<_>>(), ["128"]);
        assert_eq!(classes[0].cases.len(), 2);
    }

    #[test]
    fn what_gains_next_to_nothing_changes_nothing() {
        let device = Device::cpu(u64::MAX);
        let (problem, close) = tuned(None, 2.0, &[("128", 1.99, 0.0), ("64", 2.5, 0.0)]);
        let (tuning, classes) = choose(&device, vec![(problem, close)]).unwrap();
        assert_eq!((tuning.measured(&problem), classes[0].taken), (None, None));
        // A result that is not a number is wrong.
        let (problem, broken) = tuned(None, 2.0, &[("128", 1.0, f64::NAN)]);
        let (_, classes) = choose(&device, vec![(problem, broken)]).unwrap();
        assert_eq!((classes[0].taken, classes[0].wrong().count()), (None, 1));
    }

    #[test]
    fn the_cpu_has_nothing_to_choose() {
        let device = Device::cpu(u64::MAX);
        let cases = super::super::cases::all(&[&super::super::SHAPES[0]], &[16]);
        let case = cases.iter().find(|case| has_variants(case)).unwrap();
        assert!(try_variants(&device, case, 0.001, 1).unwrap().is_none());
    }
}
