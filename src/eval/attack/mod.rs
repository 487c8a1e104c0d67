//! Attacks: what brings knowledge back that an edit has only hidden.
//!
//! | attack | what it does |
//! |---|---|
//! | `quantise.rs` | rounds the weights to 8 or 4 bits, as deployment does |
//! | relearning | a few steps of [`crate::unlearn::train`] on some of the forgotten samples, or on neutral ones |
//! | in-context hints | forms of question (`hint`, `injected`, `affirmative`: see [`crate::data::forms`]) |

mod quantise;

pub use quantise::{Bits, QuantisedWeights};
