//! How well a model answers: probes go through it, and every one gets its figures.
//!
//! | file | what it holds |
//! |---|---|
//! | `decode.rs` | [`greedy`] and [`sampled`]: the likeliest continuation of prompts, or a drawn one, with a key-value cache |
//! | `metrics.rs` | probability, exact match, ROUGE-L, perplexity: the definitions |
//! | `mod.rs` | [`evaluate`]: probes to [`FormResult`]s, one for each file and form |
//! | `compare.rs` | two evaluations of the same probes: what changed, and examples of it |
//! | `scores.rs` | form diversity and accuracy: the two headline scores |
//! | `tofu.rs`, `membership.rs`, `stats.rs` | TOFU's figures, membership inference; intervals, the KS test, areas under curves |
//! | `choices.rs` | [`weigh`](choices::weigh): gold against wrong answers |
//! | `attack/` | what brings hidden knowledge back |

pub mod attack;
pub mod choices;
mod compare;
pub mod decode;
pub mod membership;
pub mod metrics;
pub mod scores;
pub mod stats;
#[cfg(test)]
mod tests;
pub mod tofu;

use std::sync::Arc;

pub use compare::{Kept, compare, examples};
pub use decode::{Continuation, Prompt, greedy, sampled};

use crate::Result;
use crate::data::{Encoder, Probe, ProbeKind};
use crate::model::batch::Tokens;
use crate::report::eval::EvalResult;
use crate::stream::{Budgets, DecodePlan, Extent, Pass, Progress, Unit, Weighted};
use metrics::Gold;

/// An answer has room for as many tokens as the gold answer has, and so many more.
const BEYOND_GOLD: usize = 16;
/// Without an answer to look at, a probe counts as known from this probability of the gold answer on.
const LIKELY: f64 = 0.5;

/// What is evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalOptions {
    /// Whether the model is to answer; otherwise only the gold answer's probability is measured.
    pub generate: bool,
    /// The most tokens of an answer; none: 16 more than the gold answer has.
    pub answer_tokens: Option<usize>,
    /// Tokens that end an answer, beside those that the tokenizer knows.
    pub eos: Vec<u32>,
}

impl Default for EvalOptions {
    fn default() -> Self {
        EvalOptions { generate: true, answer_tokens: None, eos: Vec::new() }
    }
}

/// What a model says to a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its tokens, without an end token.
    pub ids: Vec<u32>,
    /// Its text, where there is a tokenizer: without special tokens and surrounding white space.
    pub text: Option<String>,
    /// Whether it is right: [`Gold::matches`].
    pub exact: bool,
    /// ROUGE-L recall of the gold answer's words, or of those of the alias with the highest; none without texts.
    pub rouge_l: Option<f64>,
}

/// The figures of one probe.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeOutcome {
    /// The probe's place among those that were evaluated.
    pub probe: usize,
    /// Tokens of the gold answer, or of the text.
    pub tokens: usize,
    /// Their mean loss, in nats.
    pub loss: f64,
    /// exp(-loss): the probability of a gold token, in the geometric mean.
    pub probability: f64,
    /// What the model answers; none for a text, or where it was not asked.
    pub answer: Option<Answer>,
}

impl ProbeOutcome {
    /// Whether the model knows the answer: it gives it, or, where it was not asked, finds it likely (at least 0.5).
    pub fn known(&self) -> bool {
        self.answer.as_ref().map_or(self.probability >= LIKELY, |answer| answer.exact)
    }
}

/// The probes of one form in one file.
#[derive(Clone, Debug, PartialEq)]
pub struct FormResult {
    /// The file.
    pub file: String,
    /// The form; of probes without one `unlabelled`, of texts without one `text`.
    pub form: String,
    /// What the probes can be used for.
    pub kind: ProbeKind,
    /// Each probe's figures, in order; never empty.
    pub outcomes: Vec<ProbeOutcome>,
}

impl FormResult {
    /// The mean probability of the gold answers.
    pub fn probability(&self) -> f64 {
        mean(self.outcomes.iter().map(|outcome| outcome.probability))
    }

    /// The mean loss in nats per token: of answers with every probe alike, of texts with every token alike.
    pub fn loss(&self) -> f64 {
        match self.kind {
            ProbeKind::Answer => mean(self.outcomes.iter().map(|outcome| outcome.loss)),
            ProbeKind::Text => self.text_perplexity().ln(),
        }
    }

    /// The perplexity of texts; none for answers.
    pub fn perplexity(&self) -> Option<f64> {
        (self.kind == ProbeKind::Text).then(|| self.text_perplexity())
    }

    fn text_perplexity(&self) -> f64 {
        let sum = |outcome: &ProbeOutcome| (outcome.loss * outcome.tokens as f64, outcome.tokens);
        metrics::perplexity(self.outcomes.iter().map(sum))
    }

    /// The share of right answers; none where nothing was answered.
    pub fn exact_match(&self) -> Option<f64> {
        let exact = |outcome: &ProbeOutcome| outcome.answer.as_ref().map(|answer| f64::from(u8::from(answer.exact)));
        mean_of_some(self.outcomes.iter().map(exact))
    }

    /// The mean ROUGE-L recall; none where there is no text to compare.
    pub fn rouge_l(&self) -> Option<f64> {
        mean_of_some(self.outcomes.iter().map(|outcome| outcome.answer.as_ref().and_then(|answer| answer.rouge_l)))
    }
}

impl From<&FormResult> for EvalResult {
    fn from(result: &FormResult) -> Self {
        EvalResult {
            file: result.file.clone(),
            form: result.form.clone(),
            probes: result.outcomes.len() as u64,
            probability: result.probability(),
            loss: Some(result.loss()),
            exact_match: result.exact_match(),
            rouge_l: result.rouge_l(),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

fn mean_of_some(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let known: Vec<f64> = values.flatten().collect();
    (!known.is_empty()).then(|| mean(known.into_iter()))
}

/// Evaluates `probes`: one result for each file and form, in the order in which they first come. Texts have a perplexity
/// only. Without an `encoder`, answers are compared by their tokens.
///
/// # Errors
/// When a probe does not fit the model or the memory budget, or the device failed.
pub fn evaluate(
    pass: &Pass,
    probes: &[Probe],
    encoder: Option<&dyn Encoder>,
    options: &EvalOptions,
    progress: Progress<'_>,
) -> Result<Vec<FormResult>> {
    // Both halves are told as one: losses first, then answers.
    const STEPS: u64 = 1000;
    let halves = 1 + u64::from(options.generate);
    let half = |number: u64| {
        move |done: u64, total: u64| progress(number * STEPS + done * STEPS / total.max(1), halves * STEPS)
    };
    let samples: Vec<Arc<Tokens>> = (0..).zip(probes).map(|(number, probe)| tokens(probe, number)).collect();
    check_budgets(pass, probes, &samples, options)?;
    let losses = pass.losses(&samples, &half(0))?;
    let mut answers = vec![None; probes.len()];
    if options.generate {
        let asked: Vec<usize> = (0..probes.len()).filter(|i| probes[*i].kind == ProbeKind::Answer).collect();
        for (i, answer) in asked.iter().zip(answer(pass, probes, &asked, encoder, options, &half(1))?) {
            answers[*i] = Some(answer);
        }
    }
    let mut results: Vec<FormResult> = Vec::new();
    for (i, ((probe, loss), answer)) in probes.iter().zip(losses).zip(answers).enumerate() {
        let (tokens, loss) = (loss.tokens.len(), loss.mean());
        let outcome = ProbeOutcome { probe: i, tokens, loss, probability: metrics::probability(loss), answer };
        result_of(&mut results, probe).outcomes.push(outcome);
    }
    Ok(results)
}

/// Plans both halves before the first begins.
fn check_budgets(pass: &Pass, probes: &[Probe], samples: &[Arc<Tokens>], options: &EvalOptions) -> Result<()> {
    let mut budgets = Budgets::default();
    let units: Vec<Unit> =
        samples.iter().map(|tokens| vec![Weighted { tokens: tokens.clone(), weight: 1.0 }]).collect();
    budgets.note(pass.plan(&pass.demand(&units, None)))?;
    let asked = probes.iter().filter(|probe| options.generate && probe.kind == ProbeKind::Answer);
    let extents: Vec<Extent> = asked.map(|probe| extent(probe, options, pass.model.config.context)).collect();
    if !extents.is_empty() {
        budgets.note(DecodePlan::new(&pass.model, pass.elements(), &extents, &pass.limits()))?;
    }
    budgets.verdict()
}

fn tokens(probe: &Probe, number: u32) -> Arc<Tokens> {
    let sample = probe.sample();
    Arc::new(Tokens::new(&sample.ids, &sample.labels, number))
}

/// The answers to the probes `asked`.
fn answer(
    pass: &Pass,
    probes: &[Probe],
    asked: &[usize],
    encoder: Option<&dyn Encoder>,
    options: &EvalOptions,
    progress: Progress<'_>,
) -> Result<Vec<Answer>> {
    let mut eos = options.eos.clone();
    eos.extend(encoder.map_or(&[][..], Encoder::eos_ids));
    let context = pass.model.config.context;
    let prompt = |i: &usize| Prompt { ids: &probes[*i].prompt_ids, max_new: extent(&probes[*i], options, context).new };
    let prompts: Vec<Prompt<'_>> = asked.iter().map(prompt).collect();
    let continuations = greedy(pass, &prompts, &eos, progress)?;
    asked.iter().zip(continuations).map(|(i, continuation)| judge(&probes[*i], continuation, &eos, encoder)).collect()
}

/// How long a probe and its answer can become, in a model with a context of `context` tokens.
pub fn extent(probe: &Probe, options: &EvalOptions, context: usize) -> Extent {
    let (prompt, gold) = (probe.prompt_ids.len(), probe.gold_ids.len());
    let new = options.answer_tokens.unwrap_or(gold + BEYOND_GOLD);
    Extent { prompt, new: new.min(context.saturating_sub(prompt)) }
}

fn judge(probe: &Probe, given: Continuation, eos: &[u32], encoder: Option<&dyn Encoder>) -> Result<Answer> {
    let text = encoder.map(|encoder| encoder.decode(&given.ids, true)).transpose()?.map(|text| text.trim().to_string());
    let exact = Gold::of(probe, eos).matches(&given, text.as_deref());
    let recall = |text: &str| {
        let golds = probe.gold_text.iter().chain(&probe.aliases);
        golds.filter_map(|gold| metrics::rouge_l_recall(gold, text)).max_by(f64::total_cmp)
    };
    let rouge_l = text.as_deref().and_then(recall);
    Ok(Answer { ids: given.ids, text, exact, rouge_l })
}

/// The result that a probe belongs to.
fn result_of<'r>(results: &'r mut Vec<FormResult>, probe: &Probe) -> &'r mut FormResult {
    let file = probe.origin.path.display().to_string();
    let unnamed = if probe.kind == ProbeKind::Text { "text" } else { "unlabelled" };
    let form = probe.form.as_deref().unwrap_or(unnamed);
    let same = |result: &FormResult| result.file == file && result.form == form && result.kind == probe.kind;
    let place = results.iter().position(same).unwrap_or_else(|| {
        results.push(FormResult { file, form: form.into(), kind: probe.kind, outcomes: Vec::new() });
        results.len() - 1
    });
    &mut results[place]
}
