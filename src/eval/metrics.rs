//! How good an answer is: figures of one probe, and nothing about where the answer came from.
//!
//! | figure | definition |
//! |---|---|
//! | probability | exp of the gold tokens' mean log-probability: the geometric mean of their probabilities |
//! | perplexity | exp of the mean loss over all tokens of all texts |
//! | exact | [`Gold::matches`] |
//! | ROUGE-L recall | [`rouge_l_recall`] |

use super::decode::Continuation;
use crate::data::Probe;

/// The probability of a token in the geometric mean, from the mean loss in nats.
pub fn probability(mean_loss: f64) -> f64 {
    (-mean_loss).exp()
}

/// The perplexity of texts, from each one's summed loss in nats and its number of tokens.
pub fn perplexity(texts: impl IntoIterator<Item = (f64, usize)>) -> f64 {
    let add = |(loss, tokens): (f64, usize), (l, t): (f64, usize)| (loss + l, tokens + t);
    let (loss, tokens) = texts.into_iter().fold((0.0, 0), add);
    (loss / tokens as f64).exp()
}

/// The words of a text: its runs of letters and digits (by Unicode), in lower case.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// ROUGE-L recall (Lin 2004): the longest common subsequence of the words of both, as a share of the gold answer's words.
/// None where the gold answer has no words.
pub fn rouge_l_recall(gold: &str, answer: &str) -> Option<f64> {
    let (gold, answer) = (words(gold), words(answer));
    (!gold.is_empty()).then(|| common_subsequence(&gold, &answer) as f64 / gold.len() as f64)
}

/// The length of the longest common subsequence, by rows of the usual table.
fn common_subsequence<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    let mut row = vec![0; other.len() + 1];
    for a in one {
        let mut diagonal = 0;
        for (i, b) in other.iter().enumerate() {
            let above = row[i + 1];
            row[i + 1] = if a == b { diagonal + 1 } else { above.max(row[i]) };
            diagonal = above;
        }
    }
    row[other.len()]
}

/// A text as it is compared: lower case, white space single, and without white space and sentence punctuation around it.
pub fn normalised(text: &str) -> String {
    let edge = |c: char| c.is_whitespace() || ".,;:!?\"'“”‘’…".contains(c);
    text.trim_matches(edge).split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// What a probe's answer is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gold<'a> {
    /// The tokens without an end token.
    ids: &'a [u32],
    /// Whether the answer must end there: the gold answer has an end token.
    closed: bool,
    /// The right texts, normalised: the gold answer's and its aliases.
    texts: Vec<String>,
}

impl<'a> Gold<'a> {
    /// The gold answer of `probe`, given the tokens that end an answer.
    pub fn of(probe: &'a Probe, eos: &[u32]) -> Self {
        let end = probe.gold_ids.iter().position(|id| eos.contains(id));
        let texts = probe.gold_text.iter().chain(&probe.aliases).map(|text| normalised(text));
        Gold {
            ids: &probe.gold_ids[..end.unwrap_or(probe.gold_ids.len())],
            closed: end.is_some(),
            texts: texts.filter(|text| !text.is_empty()).collect(),
        }
    }

    /// Whether the answer is right. Where its text and a gold text are known, the texts decide: [`normalised`], the answer
    /// must equal the gold text or an alias. Otherwise the tokens decide. Where the gold answer has no end token (a
    /// completion, a fact), nothing tells the model to stop: the answer may go on after the text, at a word's end, or
    /// after the tokens.
    pub fn matches(&self, answer: &Continuation, text: Option<&str>) -> bool {
        match text.filter(|_| !self.texts.is_empty()) {
            Some(text) => {
                let text = normalised(text);
                self.texts.iter().any(|gold| if self.closed { text == *gold } else { opens_with(&text, gold) })
            }
            None if self.closed => answer.ended && answer.ids == self.ids,
            None => answer.ids.starts_with(self.ids),
        }
    }
}

/// Whether `text` begins with `start` and no word is cut there.
fn opens_with(text: &str, start: &str) -> bool {
    let rest = text.strip_prefix(start);
    let inside = start.ends_with(char::is_alphanumeric);
    rest.is_some_and(|rest| !(inside && rest.starts_with(char::is_alphanumeric)))
}
