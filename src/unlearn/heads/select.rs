//! The greedy search: in every round the heads chosen so far and one more, for each candidate, all in one pass.

use std::sync::Arc;

use super::{Head, SoftHeads};
use crate::model::batch::Tokens;
use crate::stream::{Pass, Progress, SampleLoss};
use crate::{Error, Result};

/// How heads are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How far an attention map is pulled towards the identity while heads are tried, above 0 and up to 1.
    pub knob: f64,
    /// Rounds, at most.
    pub rounds: usize,
    /// Heads that a round adds, at most.
    pub per_round: usize,
    /// What a rise of the retain set's loss counts for, against the forget set's.
    pub retain_weight: f64,
}

/// A head that was tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadTrial {
    /// The round, from 0.
    pub round: usize,
    /// The head that was pulled beside those chosen before.
    pub head: Head,
    /// How much higher the mean loss on the forget set is than the model's own, in nats.
    pub forget: f64,
    /// The same on the retain set.
    pub retain: f64,
    /// `forget` less the weighted rise of `retain`; a fall of that counts for nothing.
    pub score: f64,
    /// Whether it was chosen.
    pub taken: bool,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selected {
    /// The chosen heads, in the order in which they were chosen; empty where no head helps.
    pub heads: Vec<Head>,
    /// All that were tried.
    pub trials: Vec<HeadTrial>,
}

/// Samples for each of `count` variants, numbered variant by variant.
///
/// # Errors
/// When there are more than 32 bits can number.
pub fn variants(samples: &[Arc<Tokens>], count: usize) -> Result<Vec<Arc<Tokens>>> {
    let total = samples.len().saturating_mul(count);
    if u32::try_from(total).is_err() {
        return Err(Error::argument(format!("{total} samples at once are too many: try fewer candidates")));
    }
    let of = |variant: usize| {
        let number = move |i: usize| (variant * samples.len() + i) as u32;
        samples.iter().enumerate().map(move |(i, tokens)| Arc::new(Tokens { number: number(i), ..(**tokens).clone() }))
    };
    Ok((0..count).flat_map(of).collect())
}

/// Chooses among the `candidates`: in every round each of them is pulled together with the heads chosen so far, and the best of
/// those that raise the score above that of these heads stay. It ends when none does, or after so many rounds. Of equals the
/// earlier candidate is better.
///
/// # Errors
/// When a set or an option is wrong, or a pass fails.
pub fn select(
    pass: &Pass,
    candidates: &[Head],
    (forget, retain): (&[Arc<Tokens>], &[Arc<Tokens>]),
    options: &Options,
    progress: Progress<'_>,
) -> Result<Selected> {
    if forget.is_empty() || retain.is_empty() {
        return Err(Error::argument("choosing heads takes a sample of each set"));
    }
    if !(options.retain_weight.is_finite() && options.retain_weight >= 0.0) {
        return Err(Error::argument(format!(
            "the retain set's weight is a number from 0, not {}",
            options.retain_weight
        )));
    }
    let samples = [forget, retain].concat();
    let mut selected = Selected::default();
    let mut of_model = None;
    for round in 0..options.rounds {
        let open: Vec<Head> = candidates.iter().copied().filter(|head| !selected.heads.contains(head)).collect();
        if open.is_empty() {
            break;
        }
        // The heads chosen so far come first: alone they may do something else than each of them did. In the first round that is
        // the model itself.
        let mut pulled = vec![selected.heads.clone()];
        pulled.extend(open.iter().map(|head| [&selected.heads[..], &[*head]].concat()));
        let soft = SoftHeads::new(&pass.model, &pulled, options.knob, samples.len())?;
        let tick = |done: u64, of: u64| progress(round as u64 * of + done, options.rounds as u64 * of);
        let losses = pass.losses_under(&soft, &variants(&samples, pulled.len())?, &tick)?;
        let means: Vec<(f64, f64)> = losses
            .chunks(samples.len())
            .map(|losses| (mean(&losses[..forget.len()]), mean(&losses[forget.len()..])))
            .collect();
        let own = *of_model.get_or_insert(means[0]);
        let rise = |(forget, retain): (f64, f64)| {
            let (forget, retain) = (forget - own.0, retain - own.1);
            // A loss that is no number must stay one that cannot win.
            let harm = if retain < 0.0 { 0.0 } else { retain };
            (forget, retain, forget - options.retain_weight * harm)
        };
        let (.., best) = rise(means[0]);
        let first = selected.trials.len();
        selected.trials.extend(open.iter().zip(&means[1..]).map(|(head, means)| {
            let (forget, retain, score) = rise(*means);
            HeadTrial { round, head: *head, forget, retain, score, taken: false }
        }));
        let round = &mut selected.trials[first..];
        // A score that is no number is no gain.
        let mut order: Vec<usize> = (0..round.len()).filter(|i| round[*i].score > best).collect();
        order.sort_by(|a, b| round[*b].score.total_cmp(&round[*a].score));
        order.truncate(options.per_round);
        if order.is_empty() {
            break;
        }
        for i in order {
            round[i].taken = true;
            selected.heads.push(round[i].head);
        }
    }
    Ok(selected)
}

fn mean(losses: &[SampleLoss]) -> f64 {
    losses.iter().map(SampleLoss::mean).sum::<f64>() / losses.len() as f64
}
