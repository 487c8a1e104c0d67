//! From files of records to token sequences with targets, and to probes.
//!
//! ```text
//! files ──records──▶ Record ──tokens──▶ ids, labels ──▶ Sample (has a gradient)   in a Dataset
//!                                                   └──▶ Probe  (has a gold answer) in a ProbeSet
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `json.rs` | one line of JSON, strictly: duplicate keys are refused |
//! | `records.rs` | JSON Lines to [`Record`]s: which keys make which kind, and everything that can be wrong with them |
//! | `phrase.rs` | a template with its slots filled, and where the target stands in it |
//! | `relations.rs` | [`Relations`]: the phrasings of a relation, with `[X]` and `[Y]` |
//! | `encoder.rs` | [`Encoder`]: the little that this module needs of a tokenizer |
//! | `encode.rs`, `chat.rs`, `python.rs`, `clock.rs` | `TextEncoder` (feature `text`): tokenizer.json and the chat template |
//! | `tokens.rs` | a record to token ids, and which of them are targets |
//! | `forms/` | [`forms`]: one record told in many ways, and which of them are never trained on |
//! | `sample.rs` | [`Sample`], [`Dataset`], [`read_dataset`] |
//! | `survey.rs` | [`survey`]: what was understood of files, with everything that is wrong with them |
//! | `probes.rs` | [`Probe`], [`ProbeSet`], [`read_probes`] |
//!
//! **Records.** One JSON object a line. Its keys decide its kind:
//!
//! | keys | tokens | targets |
//! |---|---|---|
//! | `input_ids`, `labels` | as given | labels other than -100 |
//! | `text` | the text with the tokenizer's special tokens | all |
//! | `prompt`, `completion` | the prompt with leading special tokens, the completion without | the completion, and the end token if `eos` |
//! | `question`, `answer` (`alternatives`, `aliases`) | the chat template; else `Question: …\nAnswer: …` or `qa_template` | the answer with its end token |
//! | `messages` | the chat template | every assistant turn with its end token |
//! | `subject`, `relation`, `object` (`alternatives`, `aliases`, `subject_aliases`) | one sample for each phrasing; else the three in a row | the object |
//!
//! A kind counts only when all of its keys are there, so that `{"text", "answer"}` is a text and the lone `answer` is
//! as unimportant as any other unknown key. Two complete kinds in one object are *ambiguous* and refused: none of the
//! sets contains another, so neither is the more specific one. The optional key `form` labels the record's form.
//!
//! **Targets.** Labels follow Hugging Face's convention: `labels[t]` belongs to `ids[t]`, [`NOT_A_TARGET`] excludes
//! it, and the model shifts: position t predicts `labels[t + 1]`. So `labels[0]` never counts. Where a text is encoded
//! as a whole, a token is a target if it holds any byte of the target text: a token that spans the boundary is one.
//!
//! **Repeatable.** The same files, options and tokenizer give the same ids and the same [`Dataset::sha256`]. Chat
//! templates that print today's date see the day when the tokenizer was opened (UTC).

#[cfg(feature = "text")]
mod chat;
#[cfg(feature = "text")]
mod clock;
#[cfg(feature = "text")]
mod encode;
mod encoder;
#[cfg(test)]
mod fake;
pub mod forms;
mod json;
mod phrase;
mod probes;
#[cfg(feature = "text")]
mod python;
mod records;
mod relations;
mod sample;
mod survey;
mod tokens;

#[cfg(feature = "text")]
pub use encode::TextEncoder;
pub use encoder::{Encoded, Encoder, Message, Special};
pub use probes::{Choice, Probe, ProbeKind, ProbeSet, read_probes};
pub use records::{Origin, Record, RecordKind, Records, read_records};
pub use relations::Relations;
pub use sample::{Dataset, InputFile, NOT_A_TARGET, ReadOptions, Sample, read_dataset, samples_of};
pub use survey::{Part, Shown, Survey, SurveyedFile, survey};
