//! Attacks: what brings knowledge back that an edit has only hidden.
//!
//! | attack | what it does |
//! |---|---|
//! | `quantise.rs` | rounds the weights to 8 or 4 bits, as deployment does |
//! | relearning | a few steps of [`crate::unlearn::train`] on some of the forgotten samples, or on neutral ones |
//! | sampling | several answers drawn instead of the likeliest: [`Sampling`](super::Sampling) |
//! | `hints.rs` | other facts of the same relation, with their answers, in front of the question |
//! | prefixes | forms of question (`hint`, `injected`, `affirmative`: see [`crate::data::forms`]) |

mod hints;
mod quantise;

pub use hints::Hints;
pub use quantise::{Bits, QuantisedWeights};
