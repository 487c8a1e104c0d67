//! Answers from figures: was the knowledge removed, is everything else intact, what was changed, how sure is this.
//!
//! The rules are few and stated here. A form of question counts if the old model knew its answers ([`KNOWN`]). It is
//! forgotten if at most [`FORGOTTEN`] of what was known is left, and intact if at least [`INTACT`] is: by the
//! probability of the gold answer and by exact answers, whichever is worse. The worst form decides, not the mean.

use serde::Serialize;

use super::side::{KNOWN, Kept, Side};
use super::{ForgetReport, UtilityGuard};
use crate::report::escape::shorten;
use crate::report::format::{count, counted, number, percent};
use crate::stats::wilson;

/// A forgotten form keeps at most this share.
const FORGOTTEN: f64 = 0.30;
/// An intact form keeps at least this share.
const INTACT: f64 = 0.90;
/// From this rise of the held-out loss on, the model is no longer the same model: 1 is a doubled loss.
const DESTROYED_RISE: f64 = 1.0;
/// If retained probes keep less than this on average, the model is destroyed as well.
const DESTROYED_KEPT: f64 = 0.25;
/// With fewer probes than this, one answer more or less changes the picture.
const FEW_PROBES: u64 = 30;
/// With fewer probes than this, figures are anecdotes.
const HARDLY_ANY: u64 = 10;

/// Longer names are shortened in sentences.
const LONGEST_NAME: usize = 40;

/// The answer to a yes-or-no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Yes.
    Yes,
    /// In part.
    Partly,
    /// No.
    No,
    /// It was not measured, or the measurement says nothing.
    Unknown,
}

/// An answer with the figure behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// For a program.
    pub answer: Answer,
    /// The same in a word or two.
    pub word: String,
    /// The figure that carries it; may be empty.
    pub figure: String,
    /// What it means, in sentences.
    pub text: String,
}

/// What a run comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// All of it in one sentence.
    pub headline: String,
    /// Whether the whole of it is as wished: removed, and everything else intact.
    pub success: bool,
    /// Was the knowledge removed?
    pub removed: Finding,
    /// Is everything else intact?
    pub intact: Finding,
    /// Was anything changed, and what?
    pub changed: Finding,
    /// Are these answers well supported?
    pub supported: Finding,
}

impl Verdict {
    /// Reads the figures.
    pub fn of(report: &ForgetReport) -> Self {
        let case = Case::of(report);
        let (removed, intact) = (removed(&case), intact(&case));
        Verdict {
            headline: headline(&case, &removed, &intact),
            success: removed.answer == Answer::Yes && intact.answer == Answer::Yes && case.written(),
            changed: changed(&case),
            supported: supported(&case),
            removed,
            intact,
        }
    }
}

/// A share that is not a number is no share that was kept.
fn is_damaged(share: f64) -> bool {
    share.is_nan() || share < INTACT
}

/// The facts that several answers need.
struct Case<'a> {
    report: &'a ForgetReport,
    forget: Side<'a>,
    keep: Side<'a>,
    guard: Option<&'a UtilityGuard>,
}

impl<'a> Case<'a> {
    fn of(report: &'a ForgetReport) -> Self {
        let (forget, keep) = (Side::of(report, true), Side::of(report, false));
        Case { report, forget, keep, guard: report.guard.as_ref() }
    }

    fn written(&self) -> bool {
        self.report.model.sha256_after.is_some()
    }

    fn unchanged(&self) -> bool {
        let (changed, total) = self.report.changed_total();
        changed == 0 && (total > 0 || self.report.method.selected == 0)
    }

    fn destroyed(&self) -> bool {
        let loss = self
            .guard
            .is_some_and(|g| g.loss_before.is_finite() && (!g.loss_after.is_finite() || g.rise() > DESTROYED_RISE));
        loss || self.keep.broken()
            || self.forget.broken()
            || self.keep.mean.before >= KNOWN && self.keep.kept() < DESTROYED_KEPT
    }

    fn over_limit(&self) -> bool {
        self.guard.is_some_and(|g| g.rise().is_nan() || g.rise() > g.limit)
    }
}

fn headline(case: &Case, removed: &Finding, intact: &Finding) -> String {
    let unwritten = if case.written() { "" } else { " No checkpoint was written." };
    if case.unchanged() {
        let selected = case.report.method.selected;
        let why = match selected {
            0 if !case.report.training.is_empty() => "no change of those that were tried was taken".to_owned(),
            0 => "no weight was selected".to_owned(),
            _ => format!("{} selected, none of them changed in value", counted(selected, "weight")),
        };
        return format!("Nothing was removed: {why}.{unwritten}");
    }
    if case.destroyed() {
        return format!("The model is destroyed: it has lost what it was to keep.{unwritten}");
    }
    if let Some(guard) = case.guard.filter(|g| !g.accepted && !case.written()) {
        return format!("Refused: {}. No checkpoint was written.", loss_clause(guard));
    }
    let first = match removed.answer {
        Answer::Yes => "The knowledge was removed",
        Answer::Partly => "The knowledge was removed only in part",
        Answer::No => "The knowledge was not removed",
        Answer::Unknown => "Whether the knowledge was removed is not known",
    };
    let second = match (removed.answer, intact.answer) {
        (Answer::Yes, Answer::Yes) => " and everything else that was asked is intact",
        (_, Answer::Yes) => "; everything else that was asked is intact",
        (_, Answer::Partly) if case.keep.known.is_empty() => "; by the loss on held-out samples the rest is intact",
        (Answer::Yes, Answer::Partly) => ", but some other knowledge suffered",
        (_, Answer::Partly) => ", and some other knowledge suffered",
        (Answer::Yes, Answer::No) => ", but other knowledge was damaged",
        (_, Answer::No) => ", and other knowledge was damaged",
        (Answer::Unknown, Answer::Unknown) => ", nor whether the rest is intact",
        (_, Answer::Unknown) => "; whether the rest is intact is not known",
    };
    format!("{first}{second}.{unwritten}")
}

fn removed(case: &Case) -> Finding {
    let side = &case.forget;
    let mean = format!("mean probability of the right answer, {}", counted(side.probes, "probe"));
    if case.unchanged() {
        return finding(
            Answer::No,
            "No",
            if side.probes > 0 { side.figure() } else { String::new() },
            "No weight was changed, so the model answers as it did before.",
        );
    }
    if side.probes == 0 {
        return finding(
            Answer::Unknown,
            "Not measured",
            String::new(),
            "No probes of what was to be forgotten were given.",
        );
    }
    if case.destroyed() {
        let text =
            format!("{}. The model is destroyed, so what it no longer answers is no sign of removal.", capital(&mean));
        return finding(Answer::Unknown, "Cannot be said", side.figure(), text);
    }
    let (Some(worst), Some(best)) = (side.extreme(true), side.extreme(false)) else {
        let text =
            format!("{}. The old model did not know the answers either (below {}).", capital(&mean), percent(KNOWN));
        return finding(Answer::Unknown, "Cannot be said", side.figure(), text);
    };
    let failing = side.known.iter().filter(|k| k.share > FORGOTTEN).count();
    let (answer, word) = match () {
        () if failing == 0 => (Answer::Yes, "Yes"),
        () if best.share > 1.0 - FORGOTTEN || side.kept() > 1.0 - FORGOTTEN => (Answer::No, "No"),
        () => (Answer::Partly, "Partly"),
    };
    let mut text = format!("{}. ", capital(&mean));
    if failing > 0 {
        text += &format!(
            "{failing} of {} keep more than {}. ",
            counted(side.known.len() as u64, "form"),
            percent(FORGOTTEN)
        );
    }
    text += &format!("Most is left in {}.", describe(worst));
    finding(answer, word, side.figure(), text)
}

fn intact(case: &Case) -> Finding {
    let side = &case.keep;
    let figure = if side.probes > 0 { side.figure() } else { String::new() };
    if case.unchanged() {
        return finding(Answer::Yes, "Yes", figure, "No weight was changed.");
    }
    let mut text = String::new();
    if side.probes > 0 {
        text += &format!("Mean probability of the right answer, {}. ", counted(side.probes, "probe"));
    }
    let worst = side.extreme(false);
    if let Some(worst) = worst.filter(|w| w.share.is_finite()) {
        text += &format!("Least is left in {}. ", describe(worst));
    }
    if let Some(guard) = case.guard {
        text += &format!("{}.", capital(&loss_clause(guard)));
    }
    let failing = side.known.iter().filter(|k| is_damaged(k.share)).count();
    let (answer, word) = match worst {
        _ if case.destroyed() => (Answer::No, "No"),
        _ if case.over_limit() => (Answer::No, "No"),
        Some(_) if is_damaged(side.kept()) => (Answer::No, "No"),
        Some(_) if failing > 0 => (Answer::Partly, "Mostly"),
        Some(_) => (Answer::Yes, "Yes"),
        None if case.guard.is_some() => {
            text += " No probe of other knowledge that the old model knew was given.";
            (Answer::Partly, "By its loss")
        }
        None => {
            text +=
                "No probes of other knowledge that the old model knew were given, and no held-out loss was measured.";
            (Answer::Unknown, "Not measured")
        }
    };
    finding(answer, word, figure, text.trim())
}

fn changed(case: &Case) -> Finding {
    let (changed, total) = case.report.changed_total();
    let selected = case.report.method.selected;
    if case.unchanged() {
        let text = if selected == 0 {
            "The method selected no weight; the checkpoint holds the same values as before.".to_owned()
        } else {
            format!(
                "{} selected, but in the stored precision none of them has another value.",
                counted(selected, "weight")
            )
        };
        return finding(Answer::No, "Nothing", String::new(), text);
    }
    if total == 0 {
        let text = format!(
            "{} selected ({}); which of them changed was not counted.",
            counted(selected, "weight"),
            percent(case.report.method.selected_share)
        );
        return finding(Answer::Yes, &percent(case.report.method.selected_share), String::new(), text);
    }
    let mut text = "All other weights have the values they had.".to_owned();
    if changed < selected {
        text = format!(
            "{} selected; rounding left {} of them as they were. {text}",
            counted(selected, "weight"),
            count(selected - changed)
        );
    }
    let share = |c: &&super::ChangedWeights| c.changed as f64 / c.total.max(1) as f64;
    if let Some(most) = case.report.changed.iter().max_by(|a, b| share(a).total_cmp(&share(b))) {
        let layer = most.layer.map_or(String::new(), |l| format!("layer {l}, "));
        text += &format!(" Most densely in {layer}{} ({}).", shorten(&most.kind, LONGEST_NAME), percent(share(&most)));
    }
    let figure = format!("{} of {}", count(changed), count(total));
    finding(Answer::Yes, &format!("{} of weights", percent(changed as f64 / total as f64)), figure, text)
}

fn supported(case: &Case) -> Finding {
    if case.unchanged() {
        return finding(Answer::Yes, "Certain", String::new(), "That no weight differs was counted, not estimated.");
    }
    let (forget, keep) = (&case.forget, &case.keep);
    let forms = forget.results.len() as u64;
    let held_out = forget.results.iter().filter(|p| p.held_out).count();
    let figure = format!("{} + {} probes", count(forget.probes), count(keep.probes));
    let mut text = Vec::new();
    if forms > 0 {
        text.push(format!(
            "{} ask in {} for what was to be forgotten, {held_out} of them not part of the removal; {} ask for the rest.",
            count(forget.probes),
            counted(forms, "form"),
            count(keep.probes)
        ));
    }
    if let Some((hits, probes)) = forget.exact_left() {
        let [low, high] = wilson(hits, probes);
        text.push(format!(
            "{} of {} are still answered exactly: between {} and {} at 95% confidence.",
            count(hits),
            count(probes),
            percent(low),
            percent(high)
        ));
    }
    let mut doubts = Vec::new();
    if forget.probes < FEW_PROBES || keep.probes < FEW_PROBES {
        doubts.push("few probes");
    }
    if forms > 0 && held_out == 0 {
        doubts.push("only forms that the removal has seen");
    }
    if case.guard.is_none_or(|g| g.held_out_samples < FEW_PROBES) {
        doubts.push("few or no held-out samples for the loss");
    }
    if !doubts.is_empty() {
        text.push(format!("Weak points: {}.", doubts.join(", ")));
    }
    let (answer, word) = match () {
        () if forget.probes < HARDLY_ANY || keep.probes < HARDLY_ANY && case.guard.is_none() => (Answer::No, "Hardly"),
        () if doubts.is_empty() => (Answer::Yes, "Well supported"),
        () => (Answer::Partly, "Roughly"),
    };
    finding(answer, word, figure, text.join(" "))
}

fn loss_clause(guard: &UtilityGuard) -> String {
    let rise = guard.rise();
    let samples = counted(guard.held_out_samples, "held-out sample");
    let change = match rise {
        r if !r.is_finite() => format!("went from {} to {}", number(guard.loss_before), number(guard.loss_after)),
        r if r < 0.0 => format!("fell by {}", percent(-r)),
        r => format!("rose by {}", percent(r)),
    };
    format!("the loss on {samples} {change} (limit {})", percent(guard.limit))
}

fn describe(kept: &Kept) -> String {
    let held_out = if kept.probe.held_out { " (held out)" } else { "" };
    format!("the form “{}”{held_out}: {} of {}", shorten(&kept.probe.form, LONGEST_NAME), percent(kept.share), kept.of)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}

fn finding(answer: Answer, word: &str, figure: String, text: impl Into<String>) -> Finding {
    Finding { answer, word: word.to_owned(), figure, text: text.into() }
}
