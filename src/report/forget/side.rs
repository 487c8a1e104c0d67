//! One side of a removal: the probes of what is to be forgotten, or those of everything else, and what is left of it.

use super::{Change, ForgetReport, ProbeResult, Role};
use crate::report::format::percent;

/// Below this probability, or share of exact answers, a form says nothing: there was nothing to forget or to keep.
pub(super) const KNOWN: f64 = 0.05;

/// How much of what was known a form keeps.
pub(super) struct Kept<'a> {
    /// The form.
    pub(super) probe: &'a ProbeResult,
    /// What is left of what was known.
    pub(super) share: f64,
    /// What was measured.
    pub(super) of: &'static str,
}

/// The probes of one side, to be forgotten or to be kept.
pub(super) struct Side<'a> {
    /// The forms that were asked.
    pub(super) results: Vec<&'a ProbeResult>,
    /// The forms that the old model knew.
    pub(super) known: Vec<Kept<'a>>,
    /// How many probes they have.
    pub(super) probes: u64,
    /// Mean probability of the gold answer, every probe alike.
    pub(super) mean: Change,
}

impl<'a> Side<'a> {
    /// The probes to be forgotten, or all others.
    pub(super) fn of(report: &'a ForgetReport, forget: bool) -> Self {
        let results: Vec<&ProbeResult> =
            report.probes.iter().filter(|p| (p.role == Role::Forget) == forget && p.probes > 0).collect();
        let probes = results.iter().fold(0u64, |n, p| n.saturating_add(p.probes));
        let mean = |pick: fn(&Change) -> f64| {
            results.iter().map(|p| pick(&p.probability) * p.probes as f64).sum::<f64>() / probes as f64
        };
        let known = results.iter().filter_map(|p| kept(p, forget)).collect();
        Side { mean: Change::new(mean(|c| c.before), mean(|c| c.after)), results, known, probes }
    }

    /// The form that kept most, or least.
    pub(super) fn extreme(&self, most: bool) -> Option<&Kept<'a>> {
        let order = |a: &&Kept, b: &&Kept| a.share.total_cmp(&b.share);
        if most { self.known.iter().max_by(order) } else { self.known.iter().min_by(order) }
    }

    /// Whether the edited model gives figures that are none.
    pub(super) fn broken(&self) -> bool {
        self.results.iter().any(|p| !p.probability.after.is_finite())
    }

    /// The means before and after.
    pub(super) fn figure(&self) -> String {
        format!("{} → {}", percent(self.mean.before), percent(self.mean.after))
    }

    /// What is left on average.
    pub(super) fn kept(&self) -> f64 {
        self.mean.after / self.mean.before
    }

    /// How many probes the edited model still answers exactly, of how many.
    pub(super) fn exact_left(&self) -> Option<(u64, u64)> {
        let measured = self.results.iter().filter_map(|p| Some((p.exact_match?.after, p.probes)));
        let add = |(hits, all): (f64, u64), (share, probes): (f64, u64)| {
            (hits + share * probes as f64, all.saturating_add(probes))
        };
        let (hits, probes) = measured.fold((0.0, 0), add);
        (probes > 0 && hits.is_finite()).then(|| ((hits.round().max(0.0) as u64).min(probes), probes))
    }
}

/// The worse of the two measures: what is left of something to be forgotten, what is lost of something to be kept.
fn kept(probe: &ProbeResult, forget: bool) -> Option<Kept<'_>> {
    let share = |change: &Change| (change.before >= KNOWN).then(|| change.after / change.before);
    let probability = share(&probe.probability).map(|share| Kept { probe, share, of: "its probability" });
    let exact = probe.exact_match.as_ref().and_then(share).map(|share| Kept { probe, share, of: "its exact answers" });
    match (probability, exact) {
        (Some(p), Some(e)) => Some(if (e.share > p.share) == forget { e } else { p }),
        (p, e) => p.or(e),
    }
}
