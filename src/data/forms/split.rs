//! Which of a list of wordings or templates is trained on and which is held out: one function, used by every command.

use super::Forms;
use super::slot::WordingKind;
use crate::random::Random;

/// A side of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// What may be trained on.
    Train,
    /// What is asked only.
    HeldOut,
}

impl Side {
    /// The name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Side::Train => "train",
            Side::HeldOut => "held-out",
        }
    }

    /// The side of this name.
    pub fn of(name: &str) -> Option<Self> {
        [Side::Train, Side::HeldOut].into_iter().find(|side| side.name() == name)
    }
}

/// The side of each of several parts. `fixed` says which ones their file assigns; of all of them, the share `share` (rounded
/// down, but one at least if there are two and the share is not 0) is held out, the rest drawn by `seed` and `purpose`, which
/// names the list. Where the file assigns none to training, one that it leaves open is.
pub(super) fn sides(fixed: &[Option<Side>], share: f64, seed: u64, purpose: &str) -> Vec<Side> {
    let count = fixed.len();
    let mut open: Vec<usize> = (0..count).filter(|i| fixed[*i].is_none()).collect();
    Random::new(seed, purpose).shuffle(&mut open);
    let wanted = if share > 0.0 && count > 1 { ((share * count as f64) as usize).max(1) } else { 0 };
    let fixed_out = fixed.iter().filter(|side| **side == Some(Side::HeldOut)).count();
    let keeps_one = usize::from(!fixed.contains(&Some(Side::Train)));
    let drawn = wanted.saturating_sub(fixed_out).min(open.len().saturating_sub(keeps_one));
    let mut sides: Vec<Side> = fixed.iter().map(|side| side.unwrap_or(Side::Train)).collect();
    open[..drawn].iter().for_each(|i| sides[*i] = Side::HeldOut);
    sides
}

impl Forms {
    /// The sides of the wordings that `relation` has of a kind, in their order: the same for whoever asks.
    pub(super) fn wording_sides(&self, relation: &str, kind: WordingKind, fixed: &[Option<Side>]) -> Vec<Side> {
        let purpose = format!("{kind:?} of {}", self.templates.canonical(relation));
        sides(fixed, self.share, self.seed, &purpose)
    }
}

/// The side of an expression made of a template and a wording; none: of neither, because its parts are of both.
///
/// `template` is none where the form has no other frame to choose from, so that its wording alone decides; `wording` is none
/// where the template takes no wording. With the form held out, only a wording that is trained on elsewhere is in the way.
pub(super) fn combined(template: Option<Side>, wording: Option<Side>, form_held_out: bool) -> Option<Side> {
    match (template, wording) {
        _ if form_held_out => (wording != Some(Side::Train)).then_some(Side::HeldOut),
        (None, None) => Some(Side::Train),
        (None, Some(side)) | (Some(side), None) => Some(side),
        (Some(template), Some(wording)) => (template == wording).then_some(wording),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_held_out_and_something_is_left_to_train_on() {
        for (count, held_out) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (9, 4)] {
            let sides = sides(&vec![None; count], 0.5, 7, "list");
            assert_eq!(sides.iter().filter(|side| **side == Side::HeldOut).count(), held_out, "{count}");
        }
        assert!(sides(&[None; 5], 0.0, 7, "list").iter().all(|side| *side == Side::Train));
        assert_eq!(sides(&[None; 3], 0.01, 7, "list").iter().filter(|side| **side == Side::HeldOut).count(), 1);
        assert_eq!(sides(&[None; 3], 0.99, 7, "list").iter().filter(|side| **side == Side::HeldOut).count(), 2);
        assert_ne!(sides(&[None; 20], 0.5, 7, "list"), sides(&[None; 20], 0.5, 8, "list"));
        assert_ne!(sides(&[None; 20], 0.5, 7, "list"), sides(&[None; 20], 0.5, 7, "other list"));
    }

    #[test]
    fn a_file_has_the_last_word() {
        let (train, out) = (Some(Side::Train), Some(Side::HeldOut));
        for seed in 0..20 {
            assert_eq!(
                sides(&[train, out, None, None], 0.5, seed, "").iter().filter(|s| **s == Side::HeldOut).count(),
                2
            );
            assert_eq!(sides(&[out, out, out, None], 0.5, seed, "")[3], Side::Train);
            assert_eq!(sides(&[out, out], 0.5, seed, ""), [Side::HeldOut; 2]);
            assert_eq!(sides(&[train, None], 0.5, seed, ""), [Side::Train, Side::HeldOut]);
        }
    }

    #[test]
    fn parts_of_both_sides_make_nothing() {
        let (train, out) = (Some(Side::Train), Some(Side::HeldOut));
        assert_eq!(combined(train, train, false), train);
        assert_eq!(combined(out, out, false), out);
        assert_eq!(combined(train, out, false), None);
        assert_eq!(combined(out, train, false), None);
        assert_eq!((combined(None, out, false), combined(out, None, false)), (out, out));
        assert_eq!(combined(None, None, false), train);
        assert_eq!((combined(train, train, true), combined(train, out, true)), (None, out));
        assert_eq!((combined(train, None, true), combined(None, None, true)), (out, out));
    }
}
