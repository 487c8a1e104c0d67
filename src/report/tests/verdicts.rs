//! The sentences follow from the figures, bad ones as clearly as good ones.

use super::sample;
use crate::report::ForgetReport;
use crate::report::forget::{Answer, Change, Role, UtilityGuard, Verdict, render_text};

fn answers(report: &ForgetReport) -> (Answer, Answer, Answer, Answer) {
    let v = Verdict::of(report);
    (v.removed.answer, v.intact.answer, v.changed.answer, v.supported.answer)
}

#[test]
fn a_good_run() {
    let verdict = Verdict::of(&sample::good(30));
    assert_eq!(answers(&sample::good(30)), (Answer::Yes, Answer::Yes, Answer::Yes, Answer::Yes));
    assert!(verdict.success);
    assert_eq!(verdict.headline, "The knowledge was removed and everything else that was asked is intact.");
    // (0.941 + 0.962 + 0.883 + 0.791) / 4 and (0.021 + 0.034 + 0.112 + 0.203) / 4
    assert_eq!(verdict.removed.figure, "89.4% → 9.2%");
    // 0.203 / 0.791 = 0.2566 of the probability, 0.208 / 0.833 = 0.2497 of the exact answers
    assert!(
        verdict
            .removed
            .text
            .contains("Most is left in the form “multiple choice” (held out): 25.7% of its probability."),
        "{}",
        verdict.removed.text
    );
    // 2.5171 / 2.4812 - 1
    assert!(verdict.intact.text.contains("rose by 1.4% (limit 2.0%)"), "{}", verdict.intact.text);
    // 0.0417 and 0.208 of 24 each
    assert!(verdict.supported.text.contains("6 of 96 are still answered exactly"), "{}", verdict.supported.text);
}

#[test]
fn nothing_selected() {
    let report = sample::nothing_selected();
    assert_eq!(
        Verdict::of(&report).headline,
        "Nothing was removed: no weight was selected. No checkpoint was written."
    );
    assert_eq!(answers(&report), (Answer::No, Answer::Yes, Answer::No, Answer::Yes));
    assert!(!Verdict::of(&report).success);
    let mut tried = report.clone();
    tried.training = sample::trained().training;
    assert!(!tried.training.is_empty());
    assert_eq!(
        Verdict::of(&tried).headline,
        "Nothing was removed: no change of those that were tried was taken. No checkpoint was written."
    );
    let mut rounded = report;
    rounded.method.selected = 12;
    assert!(
        Verdict::of(&rounded).headline.starts_with("Nothing was removed: 12 weights selected, none of them changed")
    );
}

#[test]
fn a_destroyed_model_is_not_a_removal() {
    let verdict = Verdict::of(&sample::destroyed());
    assert!(verdict.headline.starts_with("The model is destroyed"));
    assert_eq!((verdict.removed.answer, verdict.intact.answer, verdict.success), (Answer::Unknown, Answer::No, false));
    let mut by_loss = sample::good(2);
    by_loss.guard =
        Some(UtilityGuard { held_out_samples: 50, loss_before: 2.0, loss_after: 4.1, limit: 0.02, accepted: false });
    assert!(Verdict::of(&by_loss).headline.starts_with("The model is destroyed"));
    let mut by_probes = sample::good(2);
    by_probes.guard = None;
    by_probes.probes.iter_mut().filter(|p| p.role != Role::Forget).for_each(|p| p.probability.after = 0.01);
    assert!(Verdict::of(&by_probes).headline.starts_with("The model is destroyed"));
}

#[test]
fn one_form_that_still_answers_makes_it_partial_and_all_of_them_a_failure() {
    let mut report = sample::good(2);
    report.probes[2].probability = Change::new(0.9, 0.5);
    let verdict = Verdict::of(&report);
    assert_eq!(verdict.removed.answer, Answer::Partly);
    assert!(verdict.removed.text.contains("1 of 4 forms keep more than 30.0%"), "{}", verdict.removed.text);
    assert!(verdict.headline.starts_with("The knowledge was removed only in part"));
    report.probes.iter_mut().for_each(|p| p.probability.after = p.probability.before * 0.97);
    assert_eq!(
        Verdict::of(&report).headline,
        "The knowledge was not removed; everything else that was asked is intact."
    );
}

#[test]
fn exact_answers_count_where_probability_alone_looks_well() {
    let mut report = sample::good(2);
    report.probes[0].exact_match = Some(Change::new(1.0, 0.6));
    let verdict = Verdict::of(&report);
    assert_eq!(verdict.removed.answer, Answer::Partly);
    assert!(
        verdict.removed.text.contains("the form “question”: 60.0% of its exact answers"),
        "{}",
        verdict.removed.text
    );
}

#[test]
fn damage_is_named() {
    let mut report = sample::good(2);
    report.probes[5].probability = Change::new(0.85, 0.7);
    assert_eq!(Verdict::of(&report).headline, "The knowledge was removed, but some other knowledge suffered.");
    report.probes[4].probability = Change::new(0.9, 0.5);
    assert_eq!(Verdict::of(&report).headline, "The knowledge was removed, but other knowledge was damaged.");
    let mut over = sample::good(2);
    over.guard =
        Some(UtilityGuard { held_out_samples: 50, loss_before: 2.0, loss_after: 2.2, limit: 0.02, accepted: false });
    assert_eq!(Verdict::of(&over).intact.answer, Answer::No);
    over.model.sha256_after = None;
    assert!(
        Verdict::of(&over)
            .headline
            .starts_with("Refused: the loss on 50 held-out samples rose by 10.0% (limit 2.0%). No checkpoint")
    );
}

#[test]
fn what_was_not_measured_is_not_claimed() {
    let mut report = sample::good(2);
    report.probes.retain(|p| p.role == Role::Forget);
    assert_eq!(answers(&report).1, Answer::Partly, "a loss within its limit supports it in part");
    report.guard = None;
    assert_eq!(answers(&report), (Answer::Yes, Answer::Unknown, Answer::Yes, Answer::No));
    assert!(Verdict::of(&report).headline.ends_with("whether the rest is intact is not known."));
    report.probes.clear();
    assert_eq!(answers(&report).0, Answer::Unknown);
    let mut strangers = sample::good(2);
    strangers.probes.iter_mut().filter(|p| p.role == Role::Forget).for_each(|p| {
        p.probability = Change::new(0.01, 0.0);
        p.exact_match = None;
    });
    assert_eq!(answers(&strangers).0, Answer::Unknown, "what was not known cannot be forgotten");
}

#[test]
fn doubts_are_told() {
    let mut report = sample::good(2);
    report.probes.iter_mut().for_each(|p| p.held_out = false);
    let supported = Verdict::of(&report).supported;
    assert_eq!(supported.answer, Answer::Partly);
    assert!(supported.text.contains("Weak points: only forms that the removal has seen."), "{}", supported.text);
    report.probes.iter_mut().for_each(|p| p.probes = 2);
    assert_eq!(Verdict::of(&report).supported.answer, Answer::No);
}

#[test]
fn the_interval_is_wilsons() {
    // The roots q of (p - q)² = z² q (1 - q) / n with p = 2/120 and z = 1.95996: 0.004583 and 0.058736.
    let verdict = {
        let mut report = sample::good(2);
        report.probes.truncate(1);
        report.probes[0].probes = 120;
        report.probes[0].exact_match = Some(Change::new(1.0, 2.0 / 120.0));
        Verdict::of(&report)
    };
    assert!(
        verdict.supported.text.contains("2 of 120 are still answered exactly: between 0.46% and 5.9%"),
        "{}",
        verdict.supported.text
    );
}

#[test]
fn the_terminal_summary_fits_and_says_the_same() {
    for width in [60, 80, 120] {
        let text = render_text(&sample::good(30), Some(width));
        assert!(text.starts_with("The knowledge was removed"), "{text}");
        assert!(text.lines().all(|l| l == l.trim_end()), "{text}");
        if width >= 80 {
            assert!(text.lines().all(|l| l.chars().count() <= width), "{width}\n{text}");
        }
        assert!(text.contains("edited.patch") && text.contains("people_probes.jsonl"));
    }
    assert!(render_text(&sample::nothing_selected(), Some(80)).contains("warning  ssd selected nothing"));
}
