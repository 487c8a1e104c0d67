//! Decoding: every prompt is continued by the likeliest token, or by one drawn from the model's distribution, again and again,
//! until an end token comes or a limit is reached. Prompts of different lengths go together, and a finished one leaves the batch.

use std::cmp::Reverse;

use crate::stream::{Decoder, Extent, Pass, Pick, Progress};
use crate::{Error, Result};

/// What is to be continued, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt<'a> {
    /// The tokens that are given, never empty.
    pub ids: &'a [u32],
    /// At most so many tokens follow; fewer where the model's context ends before.
    pub max_new: usize,
}

/// What follows a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continuation {
    /// The tokens, without the end token.
    pub ids: Vec<u32>,
    /// Whether an end token came; otherwise the limit was reached (or the model gave no finite logit).
    pub ended: bool,
}

/// Continues every prompt. `eos`: the tokens that end an answer. The results are in the order of the prompts and do not
/// depend on which of them went together (but for ties within the rounding of a sum).
///
/// # Errors
/// When a prompt is empty, longer than the model's context or has a token outside the vocabulary;
/// [`Error::Budget`] when not even one prompt fits the memory budget; or when the device failed.
pub fn greedy(pass: &Pass, prompts: &[Prompt<'_>], eos: &[u32], progress: Progress<'_>) -> Result<Vec<Continuation>> {
    continued(pass, prompts, eos, Pick::Likeliest, progress)
}

/// As [`greedy`], with tokens drawn from the model's distribution (at temperature 1). What is drawn for a prompt depends on the
/// `seed` and the prompt's place, and not on which prompts went together.
///
/// # Errors
/// As [`greedy`].
pub fn sampled(
    pass: &Pass,
    prompts: &[Prompt<'_>],
    eos: &[u32],
    seed: u64,
    progress: Progress<'_>,
) -> Result<Vec<Continuation>> {
    continued(pass, prompts, eos, Pick::Drawn { seed }, progress)
}

fn continued(
    pass: &Pass,
    prompts: &[Prompt<'_>],
    eos: &[u32],
    pick: Pick,
    progress: Progress<'_>,
) -> Result<Vec<Continuation>> {
    let (context, vocabulary) = (pass.model.config.context, pass.model.config.vocabulary as u32);
    check(prompts, context, vocabulary)?;
    let extent =
        |prompt: &Prompt<'_>| Extent { prompt: prompt.ids.len(), new: prompt.max_new.min(context - prompt.ids.len()) };
    let extents: Vec<Extent> = prompts.iter().map(extent).collect();
    let mut order: Vec<usize> = (0..prompts.len()).filter(|i| extents[*i].new > 0).collect();
    // Alike ones go together: they fill a cache evenly and end at about the same time.
    order.sort_by_key(|i| Reverse(extents[*i].prompt + extents[*i].new));
    let mut continuations = vec![Continuation::default(); prompts.len()];
    if order.is_empty() {
        return Ok(continuations);
    }
    let wanted: Vec<Extent> = order.iter().map(|i| extents[*i]).collect();
    let decoder = Decoder::new(pass, &wanted)?.with_pick(pick);
    let total = wanted.iter().map(|extent| extent.new as u64).sum();
    let mut done = 0;
    for batch in order.chunks(decoder.plan().sequences) {
        let given: Vec<(&[u32], usize)> = batch.iter().map(|i| (prompts[*i].ids, extents[*i].new)).collect();
        let numbers: Vec<u32> = batch.iter().map(|i| *i as u32).collect();
        let (mut sequences, mut next) = decoder.start(&given, &numbers)?;
        let mut live = batch.to_vec();
        loop {
            // From the end, since the last one takes the place of one that leaves.
            for place in (0..live.len()).rev() {
                let number = live[place];
                let (continuation, limit) = (&mut continuations[number], extents[number].new);
                let found = continuation.ids.len();
                if take(continuation, next[place], limit, eos, vocabulary) {
                    done += (limit - found) as u64;
                    live.swap_remove(place);
                    next.swap_remove(place);
                    decoder.remove(&mut sequences, place)?;
                } else {
                    done += 1;
                }
            }
            progress(done, total);
            if live.is_empty() {
                break;
            }
            next = decoder.step(&mut sequences, &next)?;
        }
        pass.device.free_scratch();
    }
    Ok(continuations)
}

/// Adds a token; returns whether it was the last.
fn take(continuation: &mut Continuation, token: u32, limit: usize, eos: &[u32], vocabulary: u32) -> bool {
    continuation.ended = eos.contains(&token);
    if continuation.ended || token >= vocabulary {
        return true;
    }
    continuation.ids.push(token);
    continuation.ids.len() == limit
}

fn check(prompts: &[Prompt<'_>], context: usize, vocabulary: u32) -> Result<()> {
    for (number, Prompt { ids, .. }) in prompts.iter().enumerate() {
        let length = ids.len();
        if length > context {
            return Err(Error::argument(format!(
                "prompt {number} has {length} tokens; the model's context is {context}"
            )));
        }
        if ids.is_empty() || ids.iter().any(|id| *id >= vocabulary) {
            let problem = format!("prompt {number} is empty or has a token outside the vocabulary of {vocabulary}");
            return Err(Error::argument(problem));
        }
    }
    Ok(())
}
