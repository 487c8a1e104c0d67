//! Whether mixed precision is good enough for a model and its data: the Fisher diagonal of a sample of the data, measured both
//! ways, before a run relies on it.

use super::importance::ImportanceSink;
use super::store::{MemoryStore, Store};
use crate::Result;
use crate::kernels::Accumulate;
use crate::kernels::precision::Precision;
use crate::model::Model;
use crate::stream::{Pass, Unit};

/// The largest deviation with which mixed precision is used. Rounding two factors to eleven digits moves a squared gradient by
/// about a thousandth; numbers out of range, which scaling could not bring back, move it by its own size.
pub const BOUND: f64 = 0.02;

/// Parameters with no more elements than this are compared, of a large model some of them.
const MOST_ELEMENTS: usize = 1 << 26;

/// A parameter whose Fisher diagonal is smaller than this share of the largest one's (both by their norms) has only to be as
/// exact as that: gradients that vanish in theory consist of rounding.
const LEAST_SHARE: f64 = 1e-4;

/// How far mixed precision is off.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// The largest ‖F mixed − F‖ / ‖F‖ of a parameter; infinite where a number is not finite.
    pub deviation: f64,
    /// That parameter's name.
    pub parameter: String,
}

impl Agreement {
    /// Whether mixed precision may be used.
    pub fn holds(&self) -> bool {
        self.deviation <= BOUND
    }
}

/// Compares the Fisher diagonals of `unit` in the precision of `pass` and in full precision.
///
/// # Errors
/// When a pass fails.
pub fn compare(pass: &Pass, unit: &Unit) -> Result<Agreement> {
    let wanted = sampled(&pass.model);
    let measure = |pass: &Pass| -> Result<Vec<(usize, Vec<f32>)>> {
        let mut store = MemoryStore::new(&pass.model);
        let mut sink = ImportanceSink::new(&pass.model, vec![Accumulate::Square], &mut store).only(wanted.clone());
        pass.gradients(std::slice::from_ref(unit), &mut sink, &|_, _| {})?;
        let ids = wanted.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(id, _)| id);
        ids.map(|id| Ok((id, store.all(id, Accumulate::Square)?))).collect()
    };
    let full = measure(&pass.on(&pass.device.with_precision(Precision::Full)))?;
    let mixed = measure(pass)?;
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let sizes: Vec<f64> = full.iter().map(|(_, f)| norm(&mut f.iter().map(|f| f64::from(*f)))).collect();
    let least = LEAST_SHARE * sizes.iter().copied().fold(0.0, f64::max);
    let mut worst = Agreement { deviation: 0.0, parameter: String::new() };
    for (((id, full), (_, mixed)), size) in full.iter().zip(&mixed).zip(&sizes) {
        let difference = norm(&mut full.iter().zip(mixed).map(|(f, m)| f64::from(*m) - f64::from(*f)));
        let deviation = if difference == 0.0 { 0.0 } else { difference / size.max(least) };
        let deviation = if deviation.is_finite() { deviation } else { f64::INFINITY };
        if deviation > worst.deviation {
            worst = Agreement { deviation, parameter: pass.model.parameters[*id].name.clone() };
        }
    }
    Ok(worst)
}

/// The pass to use: `pass` itself where it computes in full precision or agrees with that on the first of `units`; else one in
/// full precision, and why.
///
/// # Errors
/// When a pass fails.
pub fn settle(pass: Pass, units: &[Unit]) -> Result<(Pass, Option<String>)> {
    let (Precision::Mixed(_), Some(unit)) = (pass.device.precision(), units.first()) else { return Ok((pass, None)) };
    let agreement = compare(&pass, unit)?;
    if agreement.holds() {
        return Ok((pass, None));
    }
    let Agreement { deviation, parameter } = agreement;
    let reason = format!(
        "in mixed precision the importance of {parameter} is off by {:.1} % on the first sample ({:.0} % is allowed)",
        100.0 * deviation,
        100.0 * BOUND
    );
    Ok((pass.on(&pass.device.with_precision(Precision::Full)), Some(reason)))
}

/// Parameters spread evenly over the model, with at most `MOST_ELEMENTS` elements or a little more.
fn sampled(model: &Model) -> Vec<bool> {
    let candidates: Vec<usize> =
        (0..model.parameters.len()).filter(|id| model.parameters[*id].count() <= MOST_ELEMENTS).collect();
    let elements: usize = candidates.iter().map(|id| model.parameters[*id].count()).sum();
    let mut wanted = vec![false; model.parameters.len()];
    candidates.iter().step_by(elements.div_ceil(MOST_ELEMENTS).max(1)).for_each(|id| wanted[*id] = true);
    wanted
}
