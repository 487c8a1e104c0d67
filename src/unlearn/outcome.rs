//! What came of choosing: figures, tries, and why a choice must not be carried out.

use super::heads::HeadTrial;
use super::methods::Trial;
use super::overlap::Overlap;
use super::redirect::Summary;
use super::selection::{Choice, LogRatioHistogram, SharePoint};

/// A loss before and after, in nats: the mean over samples of a sample's mean over its targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossChange {
    /// Of the model as it was.
    pub before: f64,
    /// Of the edited one.
    pub after: f64,
}

impl LossChange {
    /// The relative rise, 0.02 for 2 %: of the loss before, or of one nat where that was less. A model that is sure of its
    /// answers has next to no loss, and a fiftieth of next to nothing would forbid every edit; of one nat it is a perplexity
    /// that rises by 2 %.
    pub fn rise(self) -> f64 {
        (self.after - self.before) / self.before.max(1.0)
    }
}

/// What was chosen, and what it does.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The ratios of all weights that may change.
    pub histogram: LogRatioHistogram,
    /// The choice; none where there was nothing to choose.
    pub choice: Option<Choice>,
    /// The shares that a search tried, by ascending share.
    pub curve: Vec<SharePoint>,
    /// Whether a larger share never lowered the loss in this search.
    pub monotonic: bool,
    /// The points that a training was judged at, in their order.
    pub trials: Vec<Trial>,
    /// The one that was taken.
    pub chosen: Option<usize>,
    /// The attention heads that were tried, where heads are chosen.
    pub heads: Vec<HeadTrial>,
    /// What a redirection was made of, where names are redirected.
    pub redirection: Option<Summary>,
    /// Those of the repair, if there was one.
    pub repair: Vec<Trial>,
    /// The one of these that was taken; none where the repair did not help.
    pub repaired: Option<usize>,
    /// The loss on the retain samples held out.
    pub held_out: Option<LossChange>,
    /// The loss on the forget set.
    pub forget: Option<LossChange>,
    /// How far the masks of the forms overlap, where they were measured one by one.
    pub overlap: Option<Overlap>,
    /// Why the choice must not be carried out, if it must not.
    pub refused: Option<String>,
}

impl Outcome {
    /// Nothing is chosen yet.
    pub fn new(histogram: LogRatioHistogram) -> Self {
        Outcome {
            histogram,
            choice: None,
            curve: Vec::new(),
            monotonic: true,
            trials: Vec::new(),
            chosen: None,
            heads: Vec::new(),
            redirection: None,
            repair: Vec::new(),
            repaired: None,
            held_out: None,
            forget: None,
            overlap: None,
            refused: None,
        }
    }

    /// Refuses what harms too much, and what does not forget where the method `searches`.
    pub fn judge(&mut self, limit: f64, searches: bool) {
        let (Some(forget), Some(held_out)) = (self.forget, self.held_out) else { return };
        self.refused = too_much(held_out, limit).or_else(|| nothing(forget, held_out).filter(|_| searches));
    }
}

/// Whether an edit harms what is to be kept more than is allowed.
pub(super) fn too_much(held_out: LossChange, limit: f64) -> Option<String> {
    let harmed = held_out.rise();
    // A loss that is no number exceeds every limit.
    (harmed.is_nan() || harmed > limit).then(|| {
        format!(
            "the loss on held-out retain samples rises by {}, more than the {} that are allowed (--max-utility-loss): \
             a higher threshold or more retain samples would harm less",
            percent(harmed),
            percent(limit)
        )
    })
}

/// Whether an edit harms what is to be kept at least as much as what is to be forgotten.
pub fn nothing(forget: LossChange, held_out: LossChange) -> Option<String> {
    let (removed, harmed) = (forget.rise(), held_out.rise());
    (removed.is_nan() || removed <= harmed.max(0.0)).then(|| {
        format!(
            "nothing would be forgotten: the loss on the forget set changes by {}, that on held-out retain samples by {}",
            percent(removed),
            percent(harmed)
        )
    })
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: f64, after: f64) -> LossChange {
        LossChange { before, after }
    }

    #[test]
    fn what_harms_too_much_or_helps_nobody_is_named() {
        assert_eq!(too_much(change(2.0, 2.03), 0.02), None);
        assert!(too_much(change(2.0, 2.05), 0.02).unwrap().contains("2.50 %, more than the 2.00 %"));
        assert!(too_much(change(2.0, f64::NAN), 9.0).is_some() && too_much(change(2.0, f64::INFINITY), 9.0).is_some());
        assert_eq!(nothing(change(1.0, 1.5), change(1.0, 1.02)), None);
        // It forgets no more than it harms; it forgets nothing, while the rest gets better.
        assert!(nothing(change(1.0, 1.01), change(1.0, 1.02)).is_some());
        assert!(nothing(change(1.0, 1.0), change(1.0, 0.9)).is_some());
        assert!(nothing(change(1.0, f64::NAN), change(1.0, 1.0)).is_some());
        // Below one nat the rise itself counts.
        assert_eq!((change(0.0, 0.5).rise(), change(0.25, 0.5).rise(), change(4.0, 5.0).rise()), (0.5, 0.25, 0.25));
    }
}
