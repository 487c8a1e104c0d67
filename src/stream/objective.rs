//! What the loss of a pass is: a function of the cross-entropies of a sample's targets. Its gradient at the logits is that of
//! cross-entropy times a slope that the sample's own losses decide, which are known once the head was folded over the
//! vocabulary. So no objective needs a second pass, or a second copy of the model: what the old model made of a sample
//! (NPO's reference) is one number, measured once by [`Pass::losses`](super::Pass::losses).
//!
//! The divergence from the old model needs more, its distribution at every target. It is made again, a slice of the vocabulary
//! at a time, from the old model's last hidden states ([`OldStates`], as much memory per token as one stage's activations) and
//! the head, which therefore must be the same in both: such a training leaves the final norm and the head alone.

use std::sync::Arc;

use super::terms::SampleLoss;
use crate::model::head::LossKind;

/// A sample's loss and how it follows the cross-entropies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// The loss, in nats.
    pub value: f64,
    /// Its derivative by the cross-entropy of a target: the same for each of them.
    pub slope: f64,
}

/// What the loss of each sample is. A sample's part in its unit's loss is its [weight](super::Weighted::weight) times
/// [`Term::value`].
pub trait Objective: Send + Sync {
    /// The loss of sample number `sample` of the pass, in the order of units and of the samples in them.
    fn term(&self, sample: usize, losses: &SampleLoss) -> Term;

    /// The old model's states of a sample whose loss is the mean over its targets of KL(old ‖ new) instead; [`Term::slope`]
    /// is then what a target's divergence counts for, and [`Term::value`] without it: the divergence itself is not computed.
    fn old(&self, _sample: usize) -> Option<&OldStates> {
        None
    }

    /// Whether [`old`](Self::old) has states of any sample, for the plan.
    fn diverges(&self) -> bool {
        false
    }

    /// What the losses of single targets are.
    fn kind(&self) -> LossKind {
        LossKind::CrossEntropy
    }

    /// Whether the slope is 1 whatever the sample: then nobody needs to ask.
    fn has_unit_slope(&self) -> bool {
        false
    }

    /// The number of samples that it can tell about; none: any.
    fn samples(&self) -> Option<usize> {
        None
    }
}

/// The weighted sum of the targets' cross-entropies: what passes measure unless they are told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrossEntropy;

impl Objective for CrossEntropy {
    fn term(&self, _sample: usize, losses: &SampleLoss) -> Term {
        Term { value: losses.sum(), slope: 1.0 }
    }

    fn has_unit_slope(&self) -> bool {
        true
    }
}

/// The weighted sum over the targets' positions of ‖logits‖²: the loss without labels of LFSSD (Foster et al. 2024). Which
/// positions count is the targets' business, what they are is not. [`Term::value`] is without it: the norm itself is not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SquareNorm;

impl Objective for SquareNorm {
    fn term(&self, _sample: usize, _losses: &SampleLoss) -> Term {
        Term { value: 0.0, slope: 1.0 }
    }

    fn kind(&self) -> LossKind {
        LossKind::SquareNorm
    }

    fn has_unit_slope(&self) -> bool {
        true
    }
}

/// What the old model's distribution at every position of a sample is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OldStates {
    /// The input of the final norm, `[tokens, width]`.
    pub hidden: Vec<f32>,
    /// The folds over the vocabulary, `[tokens, 3]`: see [`log_sum_exp`](crate::kernels::loss::log_sum_exp).
    pub folds: Vec<f32>,
}

/// The loss of one sample. ℓ is the sum of the cross-entropies of its targets, |y| their number, σ the logistic function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SampleObjective {
    /// ℓ/|y|: learn it.
    Mean,
    /// ℓ.
    Sum,
    /// −ℓ/|y|: gradient ascent, without a floor.
    Ascent,
    /// Negative preference optimisation (Zhang, Lin, Bai and Mei, COLM 2024): −(2/β) log σ(β (ℓ − ℓ_old)). Ascent that fades
    /// as the sample gets less likely than it was.
    Npo {
        /// How fast it fades: β, above 0.
        beta: f64,
        /// What the old model made of the sample: ℓ_old.
        reference: f64,
    },
    /// The same without the old model (Fan et al. 2024): −(2/β) log σ(β (ℓ/|y| − δ)).
    SimNpo {
        /// How fast it fades: β, above 0.
        beta: f64,
        /// The mean loss at which it has faded to a half: δ.
        delta: f64,
    },
}

impl SampleObjective {
    /// The loss of a sample with these cross-entropies.
    pub fn term(self, losses: &SampleLoss) -> Term {
        let (sum, count) = (losses.sum(), losses.tokens.len() as f64);
        match self {
            SampleObjective::Mean => Term { value: sum / count, slope: 1.0 / count },
            SampleObjective::Sum => Term { value: sum, slope: 1.0 },
            SampleObjective::Ascent => Term { value: -sum / count, slope: -1.0 / count },
            SampleObjective::Npo { beta, reference } => preference(beta, sum - reference, 1.0),
            SampleObjective::SimNpo { beta, delta } => preference(beta, sum / count - delta, 1.0 / count),
        }
    }
}

/// −(2/β) log σ(β x), and its derivative where x rises by `rate` with each cross-entropy.
fn preference(beta: f64, x: f64, rate: f64) -> Term {
    let z = -beta * x;
    // log(1 + e^z) and 1 / (1 + e^-z) without overflow.
    let softplus = z.max(0.0) + (-z.abs()).exp().ln_1p();
    let logistic = if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) };
    Term { value: 2.0 / beta * softplus, slope: -2.0 * logistic * rate }
}

/// An objective for each sample of a pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PerSample {
    /// The samples' losses, in order.
    pub losses: Vec<SampleObjective>,
    /// For each sample the old model's states where its loss is the divergence from them; may be shorter than `losses`.
    pub old: Vec<Option<Arc<OldStates>>>,
}

impl PerSample {
    /// Losses that need nothing of the old model.
    pub fn new(losses: Vec<SampleObjective>) -> Self {
        PerSample { losses, old: Vec::new() }
    }
}

impl Objective for PerSample {
    fn term(&self, sample: usize, losses: &SampleLoss) -> Term {
        match self.losses.get(sample) {
            // The mean over the targets, of what is not computed.
            Some(_) if self.old(sample).is_some() => Term { value: 0.0, slope: 1.0 / losses.tokens.len() as f64 },
            Some(objective) => objective.term(losses),
            None => Term { value: f64::NAN, slope: f64::NAN },
        }
    }

    fn samples(&self) -> Option<usize> {
        Some(self.losses.len())
    }

    fn old(&self, sample: usize) -> Option<&OldStates> {
        self.old.get(sample)?.as_deref()
    }

    fn diverges(&self) -> bool {
        self.old.iter().any(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn slopes_are_the_derivatives_of_the_values() {
        let mut random = Random::new(5, "objectives");
        let mut draw = |scale: f64| random.below(1_000_000) as f64 / 1e6 * scale;
        for _ in 0..200 {
            let tokens: Vec<f32> = (0..1 + draw(7.0) as usize).map(|_| draw(4.0) as f32).collect();
            let (beta, reference, delta) = (0.05 + draw(4.0), draw(12.0), draw(2.0));
            for objective in [
                SampleObjective::Mean,
                SampleObjective::Sum,
                SampleObjective::Ascent,
                SampleObjective::Npo { beta, reference },
                SampleObjective::SimNpo { beta, delta },
            ] {
                let term = objective.term(&SampleLoss { tokens: tokens.clone() });
                for i in 0..tokens.len() {
                    let step = 1.0 / 1024.0;
                    let moved = |step: f32| {
                        let mut tokens = tokens.clone();
                        tokens[i] += step;
                        (objective.term(&SampleLoss { tokens: tokens.clone() }).value, f64::from(tokens[i]))
                    };
                    let ((up, right), (down, left)) = (moved(step), moved(-step));
                    let slope = (up - down) / (right - left);
                    assert!((slope - term.slope).abs() < 1e-4, "{objective:?} {tokens:?}: {slope}, {term:?}");
                }
            }
        }
    }

    #[test]
    fn preferences_are_the_papers_and_do_not_overflow() {
        let losses = SampleLoss { tokens: vec![1.5, 0.5] };
        // At the old model itself NPO is ascent on the sum.
        let at = SampleObjective::Npo { beta: 0.1, reference: 2.0 }.term(&losses);
        assert!((at.value - 20.0 * 2f64.ln()).abs() < 1e-12 && (at.slope + 1.0).abs() < 1e-12);
        let sim = SampleObjective::SimNpo { beta: 2.5, delta: 0.0 }.term(&losses);
        let logistic = 1.0 / (1.0 + (-2.5f64).exp());
        assert!((sim.value + 0.8 * logistic.ln()).abs() < 1e-12 && (sim.slope + (1.0 - logistic)).abs() < 1e-12);
        for reference in [-1e6, 1e6] {
            let far = SampleObjective::Npo { beta: 3.0, reference }.term(&losses);
            assert!(far.value.is_finite() && (-2.0..=0.0).contains(&far.slope), "{far:?}");
        }
    }
}
