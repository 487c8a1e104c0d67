//! Other answers to the forget set's questions, and which of its wordings are held out.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::kernels::loss::NO_TARGET;
use crate::model::batch::Tokens;
use crate::random::Random;
use crate::{Error, Result};

/// One in so many forget samples is held out, if others have the same answer.
const HELD_OUT_OF: usize = 5;
/// Forget samples that are held out, at most.
const MOST_HELD_OUT: usize = 128;

/// Where a sample's answer begins: the first position with a target, if all that follow but the last have one.
fn answer(tokens: &Tokens) -> Option<usize> {
    let first = tokens.targets.iter().position(|target| *target != NO_TARGET)?;
    let (_, run) = tokens.targets[first..].split_last()?;
    (!run.is_empty() && !run.contains(&NO_TARGET)).then_some(first)
}

/// The answer that could be refused: the positions with a target, if they follow each other and something stands before them. What comes
/// after them ("." in a statement) is no part of it.
fn asked(tokens: &Tokens) -> Option<Range<usize>> {
    let first = tokens.targets.iter().position(|target| *target != NO_TARGET).filter(|first| *first > 0)?;
    let count = tokens.targets[first..].iter().take_while(|target| **target != NO_TARGET).count();
    let after = &tokens.targets[first + count..];
    after.iter().all(|target| *target == NO_TARGET).then_some(first..first + count)
}

/// Whether something is asked that could be refused.
pub fn asks(tokens: &Tokens) -> bool {
    asked(tokens).is_some()
}

/// A sample with another answer.
fn with_answer(tokens: &Tokens, first: usize, answer: &[u32]) -> Arc<Tokens> {
    let ids: Vec<u32> = tokens.ids[..=first].iter().chain(answer).copied().collect();
    let mut targets = vec![NO_TARGET; first];
    targets.extend(answer);
    targets.push(NO_TARGET);
    Arc::new(Tokens { ids, targets, number: tokens.number })
}

/// The tokens of a sample's answer.
fn answer_of(tokens: &Tokens, first: usize) -> &[u32] {
    &tokens.targets[first..tokens.targets.len() - 1]
}

/// Why a sample cannot be refused, after what names it.
pub const ASKS_NOTHING: &str = "asks nothing that could be refused; right are records with a prompt and a completion, a question and an \
                                answer, or messages with one reply";

/// Makes the token sequences of the refusals that may stand in for an old answer.
pub type Refusals<'a> = dyn Fn(&[u32]) -> Result<Vec<Vec<u32>>> + 'a;

/// Every forget sample's question with a refusal for an answer: one of those that `texts` makes for the old answer (it may or
/// may not begin with a space, say), drawn with `seed`. An end token (one of `ends`) after the old answer also comes after the
/// refusal, and nothing else does.
///
/// # Errors
/// When a sample [`asks`] nothing, or grows longer than the model's context.
pub fn refusals(
    forget: &[Arc<Tokens>],
    texts: &Refusals<'_>,
    ends: &[u32],
    context: usize,
    seed: u64,
) -> Result<Vec<Arc<Tokens>>> {
    let mut random = Random::new(seed, "refusals");
    let one = |tokens: &Arc<Tokens>| {
        let number = tokens.number;
        let Some(old) = asked(tokens) else {
            return Err(Error::argument(format!("sample {number} of the forget set {ASKS_NOTHING}")));
        };
        let (first, old) = (old.start, &tokens.targets[old]);
        let mut texts = texts(old)?;
        texts.retain(|text| !text.is_empty());
        if texts.is_empty() {
            return Err(Error::argument("a refusal needs at least one token"));
        }
        let mut refusal = texts.swap_remove(random.below(texts.len()));
        refusal.extend(old.last().filter(|last| ends.contains(last)));
        let length = first + 1 + refusal.len();
        if length > context {
            return Err(Error::argument(format!(
                "sample {number} of the forget set with a refusal has {length} tokens; the model's context is {context}"
            )));
        }
        Ok(with_answer(tokens, first, &refusal))
    };
    forget.iter().map(one).collect()
}

/// Every forget sample with a wrong answer, drawn with `seed`: that of a retain sample, or, where a sample's targets are no
/// answer at its end, for each target one of the retain set's.
///
/// # Errors
/// When the retain set has no answer that differs.
pub fn swapped(forget: &[Arc<Tokens>], retain: &[Arc<Tokens>], context: usize, seed: u64) -> Result<Vec<Arc<Tokens>>> {
    let mut random = Random::new(seed, "random labels");
    let answers: Vec<&[u32]> = retain.iter().filter_map(|r| Some(answer_of(r, answer(r)?))).collect();
    let targets: Vec<u32> = retain.iter().flat_map(|r| &r.targets).copied().filter(|t| *t != NO_TARGET).collect();
    let one = |tokens: &Arc<Tokens>| {
        let missing = || {
            Error::argument(format!(
                "the retain set has no other answer for sample {} of the forget set",
                tokens.number
            ))
        };
        if let Some(first) = answer(tokens).filter(|first| *first > 0) {
            let right = answer_of(tokens, first);
            let fits = |wrong: &[u32]| wrong != right && first + 1 + wrong.len() <= context;
            // Most draws fit; where few do, they are looked for one by one.
            let drawn = (0..64).map(|_| random.below(answers.len().max(1))).collect::<Vec<_>>();
            let found = drawn.into_iter().filter_map(|i| answers.get(i)).find(|wrong| fits(wrong));
            let found = found.or_else(|| answers.iter().find(|wrong| fits(wrong)));
            return Ok(with_answer(tokens, first, found.ok_or_else(missing)?));
        }
        if targets.is_empty() {
            return Err(missing());
        }
        let mut drawn = Tokens::clone(tokens);
        for target in drawn.targets.iter_mut().filter(|target| **target != NO_TARGET) {
            *target = targets[random.below(targets.len())];
        }
        Ok(Arc::new(drawn))
    };
    forget.iter().map(one).collect()
}

/// For each forget sample whether it is held out, to judge by: one in five and at most 128, drawn with `seed` among those
/// whose answer another sample has that is not held out. So what is held out is a wording, and never a fact that training
/// does not see. Nothing is held out where every answer comes once.
pub fn hold_out_wordings(forget: &[Arc<Tokens>], seed: u64) -> Vec<bool> {
    let mut left: HashMap<Vec<u32>, usize> = HashMap::new();
    let key = |tokens: &Tokens| tokens.targets.iter().copied().filter(|t| *t != NO_TARGET).collect::<Vec<u32>>();
    for sample in forget {
        *left.entry(key(sample)).or_default() += 1;
    }
    let most = (forget.len() / HELD_OUT_OF).min(MOST_HELD_OUT);
    let mut held_out = vec![false; forget.len()];
    let mut count = 0;
    for i in Random::new(seed, "hold-out wordings").order(forget.len()) {
        if count == most {
            break;
        }
        if let Some(others) = left.get_mut(&key(&forget[i])).filter(|others| **others > 1) {
            *others -= 1;
            held_out[i] = true;
            count += 1;
        }
    }
    held_out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: u32 = NO_TARGET;

    fn sample(ids: &[u32], first: usize, number: u32) -> Arc<Tokens> {
        let labels: Vec<i32> = (0..).zip(ids).map(|(i, id)| if i < first { -100 } else { *id as i32 }).collect();
        Arc::new(Tokens::new(ids, &labels, number))
    }

    #[test]
    fn a_refusal_takes_the_answers_place_and_its_end() {
        let forget = [sample(&[1, 2, 3, 9], 2, 0), sample(&[4, 5, 6], 2, 1)];
        let made = refusals(&forget, &|_| Ok(vec![vec![7, 8]]), &[9], 6, 0).unwrap();
        assert_eq!((&made[0].ids[..], &made[0].targets[..]), (&[1, 2, 7, 8, 9][..], &[NONE, 7, 8, 9, NONE][..]));
        assert_eq!((&made[1].ids[..], &made[1].targets[..]), (&[4, 5, 7, 8][..], &[NONE, 7, 8, NONE][..]));
        assert!(refusals(&forget, &|_| Ok(vec![vec![7, 8]]), &[9], 4, 0).unwrap_err().is_input(), "too long");
        assert!(refusals(&forget, &|_| Ok(vec![vec![]]), &[9], 9, 0).unwrap_err().is_input());
        let text = [sample(&[1, 2, 3], 0, 0)];
        assert!(refusals(&text, &|_| Ok(vec![vec![7]]), &[], 9, 0).unwrap_err().to_string().contains("asks nothing"));
    }

    #[test]
    fn what_follows_an_answer_is_not_said_after_a_refusal() {
        let statement = Arc::new(Tokens::new(&[1, 2, 3, 4, 5], &[-100, -100, 3, 4, -100], 0));
        let made = refusals(&[statement], &|old| Ok(vec![vec![7, old.len() as u32]]), &[5], 9, 0).unwrap();
        assert_eq!((&made[0].ids[..], &made[0].targets[..]), (&[1, 2, 7, 2][..], &[NONE, 7, 2, NONE][..]));
        let two = Tokens::new(&[1, 2, 3, 4, 5], &[-100, 2, -100, 4, -100], 0);
        assert!(
            !asks(&two) && !asks(&Tokens::new(&[1, 2, 3], &[-100, 2, 3], 0)) && !asks(&Tokens::new(&[1], &[-100], 0))
        );
    }

    #[test]
    fn a_wrong_answer_is_never_the_right_one() {
        let forget: Vec<_> = (0..40).map(|i| sample(&[1, 2, 3], 2, i)).collect();
        let retain = [sample(&[5, 3], 1, 0), sample(&[5, 4, 6], 1, 1)];
        for made in swapped(&forget, &retain, 9, 3).unwrap() {
            assert_eq!((&made.ids[..], &made.targets[..]), (&[1, 2, 4, 6][..], &[NONE, 4, 6, NONE][..]));
        }
        assert!(swapped(&forget, &retain[..1], 9, 3).unwrap_err().is_input(), "only the right answer is there");
        let text = swapped(&[sample(&[1, 2, 3], 0, 0)], &retain, 9, 3).unwrap();
        assert!(text[0].ids == [1, 2, 3] && text[0].targets[..2].iter().all(|t| [3, 4, 6].contains(t)));
    }

    #[test]
    fn what_is_held_out_is_trained_in_another_wording() {
        let mut forget: Vec<_> = (0..60).map(|i| sample(&[i, 100 + i % 20], 1, i)).collect();
        let held_out = hold_out_wordings(&forget, 1);
        assert_eq!(held_out.iter().filter(|out| **out).count(), 12);
        for i in (0..60).filter(|i| held_out[*i]) {
            assert!((0..60).any(|j| !held_out[j] && j % 20 == i % 20), "{i}");
        }
        assert_ne!(held_out, hold_out_wordings(&forget, 2));
        forget.truncate(20);
        assert!(!hold_out_wordings(&forget, 1).contains(&true));
    }
}
