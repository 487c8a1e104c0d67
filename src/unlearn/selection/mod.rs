//! Which weights to change: from two importances to a mask.
//!
//! With the importance F_f of a weight for the forget set and F for what it is compared with, its ratio is r = F_f / F. A
//! rule makes a threshold of the histogram of all ratios, and the weights with F_f > 0 and r > threshold are selected:
//! [`Rule`]. Instead of single weights, whole rows, columns, heads or tensors can be selected: [`Grouping`]. Which tensors
//! take part at all is for [`names`](super::names) to say, and [`largest_share`] finds how many weights can be changed
//! before what is to be kept suffers. Where what is to be forgotten was measured form by form, [`Combine`] says what the forms
//! agree on.

mod combine;
mod groups;
mod histogram;
mod rule;
mod share;

pub use combine::Combine;
pub use groups::{Axis, Granularity, GroupScore, Grouping, Heads};
pub use histogram::LogRatioHistogram;
pub use rule::{Against, Choice, Rule, auto_percentile};
pub use share::{LargestShare, SharePoint, largest_share};
