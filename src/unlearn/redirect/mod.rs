//! Redirecting concepts: a change of low rank in a few early layers, after which the model takes one name for another. It needs
//! names only: no wording of what is to be forgotten, and no training (after ROCR, IEEE S&P 2026, and MEMIT, ICLR 2023).
//!
//! What enters a layer's projection down at a name's token is a *key*, by which the layer looks up what it knows; what the last
//! edited layer puts out there is the *state* that later layers read the facts from. Layer after layer, the keys' outputs are
//! moved so that the states become those of another name, by a change that leaves alone what ordinary text uses.
//!
//! | file | what it holds |
//! |---|---|
//! | `aim.rs` | where it begins: what is measured once, and the changes that follow from it |
//! | `contexts.rs` | names in contexts, as tokens |
//! | `beginnings.rs` | which beginnings of names lead to what is to be forgotten |
//! | `held.rs` | names to be kept that stay what they are |
//! | `spots.rs` | which tokens are keys, and where their states should go |
//! | `states.rs` | keys and states at these tokens: a pass that goes forward only |
//! | `covariance.rs` | E\[kkᵀ\] of ordinary text at a layer, streamed, and its file |
//! | `subspace.rs`, `ordinary.rs` | what of it is dominant; how far keys lie beside it |
//! | `solve.rs` | the change: one n×n solve for n keys |
//! | `weights.rs` | the weights with changes on top |
//! | `strength.rs` | how much of it is taken |

mod aim;
mod beginnings;
mod contexts;
pub mod covariance;
mod held;
mod ordinary;
mod solve;
mod spots;
mod states;
mod strength;
mod subspace;
mod weights;

use std::sync::Arc;

pub use aim::{Aim, Options};
pub use beginnings::{Beginning, Candidate, KNOWN, LEADS, beginnings, leading};
pub use contexts::{Context, Named, of_openings, of_phrasings, usual, write};
pub use covariance::{Covariance, Provenance, Site, sites};
pub use held::{Held, held};
pub use ordinary::Ordinary;
pub use solve::{Factors, Fit, solve};
pub use spots::{Request, Reversed, samples};
pub use states::{Place, States, states};
pub use strength::{Taken, share, within};
pub use subspace::{Subspace, dominant};
pub use weights::{Change, RedirectedWeights};

use crate::model::{Model, Stage};

/// Which of a name's tokens are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyTokens {
    /// The last, where a name is complete.
    #[default]
    Last,
    /// The first as well: what a name begins with is changed wherever it stands.
    FirstAndLast,
}

/// What became of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerReport {
    /// The layer.
    pub layer: usize,
    /// Keys.
    pub keys: usize,
    /// Rank of the ordinary subspace that is left alone altogether.
    pub rank: usize,
    /// How the keys were met.
    pub fit: Fit,
    /// Mean distance of the states that should move from where they should be, before this layer's change.
    pub distance: f64,
}

/// What a redirection was made of, counted: names are data, which a report may have to leave out.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Names that are redirected.
    pub names: usize,
    /// Beginnings of names that are redirected as well.
    pub beginnings: usize,
    /// Objects that no longer lead back.
    pub objects: usize,
    /// Contexts in which names stand.
    pub contexts: usize,
    /// Names to be kept that are held.
    pub held: usize,
    /// What became of the layers.
    pub layers: Vec<LayerReport>,
}

impl Summary {
    /// Of what was asked for and what was made of it.
    pub fn of(request: &Request, redirection: &Redirection) -> Self {
        Summary {
            names: request.names.len(),
            beginnings: request.beginnings.len(),
            objects: request.reversed.len(),
            contexts: request.contexts.len(),
            held: request.held.len(),
            layers: redirection.layers.clone(),
        }
    }
}

/// Changes, ready to be tried at any strength.
#[derive(Clone, Debug)]
pub struct Redirection {
    /// One for each layer, ascending.
    pub changes: Vec<Arc<Change>>,
    /// What became of the layers.
    pub layers: Vec<LayerReport>,
}

/// The layers that are edited where none are named: an eighth of the depth, from a tenth of it on. (ROCR edits layers 4 to 6 or
/// 8 of 32.)
pub fn usual_layers(model: &Model) -> Vec<usize> {
    let depth = model.stages.iter().filter(|stage| matches!(stage, Stage::Mlp(_))).count();
    let first = (depth / 10).min(depth - 1);
    (first..(first + (depth / 8).max(1)).min(depth)).collect()
}
