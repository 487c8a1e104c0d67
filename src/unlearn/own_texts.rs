//! What a model writes of its own accord, in place of a retain set: how its texts begin, and which of them must not be kept
//! because they speak of what is to be forgotten.

use std::collections::HashSet;

use crate::Result;
use crate::data::{Encoder, Record, RecordKind, Special};
use crate::random::Random;

/// How texts begin: with nothing, or with a word that says nothing.
const OPENINGS: [&str; 16] =
    ["", "The", "In", "It", "A", "This", "When", "There", "I", "For", "On", "One", "Many", "What", "How", "If"];
/// How often a first token is drawn before none is found.
const DRAWS: usize = 1000;
/// Words of an answer that is looked for as a whole.
const LONGEST_ANSWER: usize = 8;
/// Of longer ones so many words in a row are too many.
const RUN: usize = 5;

/// What `count` texts begin with. Every other one begins with the tokenizer's first token (or an end token, where it has none),
/// alone or followed by a neutral word that the tokenizer knows; the others with a token drawn by the `seed` from the whole
/// vocabulary of that many tokens (after Liu et al. 2023, LLM-QAT), but none of `ends` and none that is not a text.
///
/// # Errors
/// When the tokenizer fails.
pub fn starts(
    encoder: &dyn Encoder,
    (count, vocabulary): (usize, usize),
    ends: &[u32],
    seed: u64,
) -> Result<Vec<Vec<u32>>> {
    let leading = encoder.encode("", Special::Leading)?.ids;
    let begin = if leading.is_empty() { ends.first().copied().into_iter().collect() } else { leading.clone() };
    let mut neutral: Vec<Vec<u32>> = Vec::new();
    for opening in OPENINGS {
        let ids = encoder.encode(opening, Special::None)?.ids;
        let known = encoder.decode(&ids, false)?.trim() == opening;
        let start = [&begin[..], &ids].concat();
        if known && !start.is_empty() && !neutral.contains(&start) {
            neutral.push(start);
        }
    }
    let mut random = Random::new(seed, "first tokens of own texts");
    let mut drawn = || -> Result<Option<Vec<u32>>> {
        for _ in 0..DRAWS {
            let id = random.below(vocabulary.max(1)) as u32;
            let text = if ends.contains(&id) { String::new() } else { encoder.decode(&[id], true)? };
            if !text.trim().is_empty() && !text.contains(char::REPLACEMENT_CHARACTER) {
                return Ok(Some([&leading[..], &[id]].concat()));
            }
        }
        Ok(None)
    };
    let mut starts = Vec::with_capacity(count);
    for i in 0..count {
        let neutral = (!neutral.is_empty()).then(|| neutral[i / 2 % neutral.len()].clone());
        starts.extend(if i % 2 == 0 && neutral.is_some() { neutral } else { drawn()?.or(neutral) });
    }
    Ok(starts)
}

/// What a text must not hold: answers and names that are to be forgotten, and runs of words of longer texts.
#[derive(Clone, Debug, Default)]
pub struct Forgotten {
    answers: Vec<Vec<String>>,
    /// Answers in scripts that do not part words, in lower case.
    unparted: Vec<String>,
    runs: HashSet<Vec<String>>,
}

impl Forgotten {
    /// What the records of a forget set say: of a fact subject and object with their other names, of a question its answers, of a
    /// prompt its completion, of a conversation what the assistant says; of a text its runs of words. Records of token ids are
    /// read with the `encoder`.
    ///
    /// # Errors
    /// When the tokenizer cannot decode them.
    pub fn of(records: &[Record], encoder: &dyn Encoder) -> Result<Self> {
        let mut forgotten = Forgotten::default();
        for record in records {
            match &record.kind {
                RecordKind::Fact { subject, object, aliases, subject_aliases, .. } => {
                    let names = [subject, object].into_iter().chain(aliases).chain(subject_aliases);
                    names.for_each(|name| forgotten.add(name));
                }
                RecordKind::Question { answer, aliases, .. } => {
                    std::iter::once(answer).chain(aliases).for_each(|answer| forgotten.add(answer));
                }
                RecordKind::Completion { completion, .. } => forgotten.add(completion),
                RecordKind::Text { text } => forgotten.add_runs(&words(text)),
                RecordKind::Messages { messages } => {
                    let said = messages.iter().filter(|message| message.role == "assistant");
                    said.for_each(|message| forgotten.add(&message.content));
                }
                RecordKind::Tokens { ids, labels } => {
                    let targets = ids.iter().zip(labels).filter(|(_, label)| **label >= 0);
                    let ids: Vec<u32> = targets.map(|(id, _)| *id).collect();
                    forgotten.add(&encoder.decode(&ids, true)?);
                }
            }
        }
        Ok(forgotten)
    }

    /// Adds an answer. A single letter is none: it stands for an option.
    fn add(&mut self, answer: &str) {
        let words = words(answer);
        let letters: usize = words.iter().map(|word| word.chars().count()).sum();
        if words.len() > LONGEST_ANSWER {
            self.add_runs(&words);
        } else if letters > 1 {
            if !answer.is_ascii() {
                self.unparted.push(answer.trim().to_lowercase());
            }
            self.answers.push(words);
        }
    }

    fn add_runs(&mut self, words: &[String]) {
        match words.len() > RUN {
            true => self.runs.extend(words.windows(RUN).map(<[String]>::to_vec)),
            false if !words.is_empty() => self.answers.push(words.to_vec()),
            false => {}
        }
    }

    /// Whether a text speaks of it.
    pub fn is_in(&self, text: &str) -> bool {
        let words = words(text);
        let lower = text.to_lowercase();
        self.answers.iter().any(|answer| words.windows(answer.len()).any(|run| run == &answer[..]))
            || self.unparted.iter().any(|answer| lower.contains(answer))
            || words.windows(RUN).any(|run| self.runs.contains(run))
    }
}

/// The words of a text, without case.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::data::{Encoded, Message, Origin};

    /// A tokenizer that nothing is asked of.
    struct Silent;

    impl Encoder for Silent {
        fn encode(&self, text: &str, special: Special) -> Result<Encoded> {
            let known = text.is_empty() || text == "The" || special != Special::None;
            Ok(Encoded {
                ids: if text.is_empty() { vec![] } else { vec![if known { 7 } else { 0 }] },
                bytes: Vec::new(),
            })
        }

        fn decode(&self, ids: &[u32], _: bool) -> Result<String> {
            Ok(if ids == [7] { "The".into() } else { ids.iter().map(|_| "?").collect() })
        }

        fn has_chat_template(&self) -> bool {
            false
        }

        fn render_chat(&self, _: &[Message], _: bool) -> Result<String> {
            Ok(String::new())
        }

        fn chat_template_name(&self) -> String {
            String::new()
        }

        fn end_token(&self) -> Option<u32> {
            Some(2)
        }

        fn eos_ids(&self) -> &[u32] {
            &[2]
        }
    }

    fn record(kind: RecordKind) -> Record {
        Record { kind, form: None, origin: Origin { path: Arc::from(Path::new("f")), line: 1 } }
    }

    #[test]
    fn texts_begin_with_what_the_tokenizer_knows() {
        let five = |seed: u64| starts(&Silent, (5, 10), &[2], seed).unwrap();
        let found = five(1);
        assert_eq!([&found[0], &found[2], &found[4]], [&vec![2], &vec![2, 7], &vec![2]]);
        for drawn in [&found[1], &found[3]] {
            assert!(drawn.len() == 1 && drawn[0] < 10 && drawn[0] != 2, "{drawn:?}");
        }
        assert_eq!(found, five(1));
        assert!((2..9).any(|seed| five(seed) != found));
    }

    #[test]
    fn what_speaks_of_the_forgotten_is_found() {
        let text = "Call me Ishmael. Some years ago, never mind how long precisely, I went to sea.";
        let answer =
            |completion: &str| record(RecordKind::Completion { prompt: "P".into(), completion: completion.into() });
        let records = [
            answer(" Ur"),
            answer("B"),
            answer("New  York."),
            answer("東京"),
            record(RecordKind::Text { text: text.into() }),
        ];
        let forgotten = Forgotten::of(&records, &Silent).unwrap();
        for text in
            ["It lies in ur, far away", "to New York", "日本の東京です", "He said: some YEARS ago never mind, and left"]
        {
            assert!(forgotten.is_in(text), "{text}");
        }
        for text in ["Our urn", "York, new and old", "Plan B", "", "Call me; some years ago", "日本"] {
            assert!(!forgotten.is_in(text), "{text}");
        }
    }
}
