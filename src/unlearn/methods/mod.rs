//! Removal by training: methods that follow a gradient under a mask, the search for their strength, and the repair of what
//! they harm. What they make is a [`WeightSource`](crate::model::weights::WeightSource) on top of the old one: an edit is tried,
//! judged and thrown away without being written.
//!
//! | file | what it holds |
//! |---|---|
//! | `mask.rs` | which weights are trained: by importance, by gradient, or by WAGLE's score |
//! | `relabel.rs` | other answers to the forget set's questions: refusals, or those of other records |
//! | `tune.rs` | gradient difference, NPO, SimNPO and training on other answers: the loop |
//! | `task_vector.rs` | learning the forget set, and going the other way |
//! | `judge.rs` | how an edit stands with the samples held out |
//! | `search.rs` | how strong a method should be: [`search`] |
//! | `scale.rs` | the same for edits whose strength is one number |
//! | `recalibrate.rs` | training on the retain set that leaves alone what was forgotten |
//! | `edited.rs` | trained weights as an edit that can be written |

mod edited;
mod judge;
mod mask;
mod recalibrate;
mod relabel;
mod scale;
mod search;
mod task_vector;
mod tune;

pub use edited::EditedWeights;
pub use judge::{Judge, Standing};
pub use mask::{Mask, Score, gradient_scores, top_share};
pub use recalibrate::{Recalibrated, Recalibration, recalibrate};
pub use relabel::{ASKS_NOTHING, Refusals, asks, hold_out_wordings, refusals, swapped};
pub use scale::{AtScale, FULL, MOST_TRIES, search_scale};
pub use search::{FORGOTTEN, Found, Strength, Told, Trial, search};
pub use task_vector::ScaledWeights;
pub use tune::{AfterStep, Goal, RetainLoss, Sets, TuneOptions, largest_units, tune};
