//! Attention heads chosen by their measured effect: greedily, with a soft knob that pulls a head's attention map towards the
//! identity (after HeadHunter and SoftPAG, NeurIPS 2025, which do so for the guidance of diffusion).
//!
//! | step | function |
//! |---|---|
//! | heads by the two sets' importances, summed over their part of the output projection | [`rank`] |
//! | in every round the chosen heads and one more, for each candidate, in one pass; the best stay | [`select`] |
//! | the edit: the chosen heads' part of the output projection, scaled | [`ScaledHeads`] |
//!
//! A pulled map cannot be written into a checkpoint, so that it only ranks. The stored edit scales what a head adds to the
//! residual stream; keys and values, which several heads may share, are never changed.

mod rank;
mod select;
mod soft;
mod weights;

pub use rank::{output_projections, rank};
pub use select::{HeadTrial, Options, Selected, select, variants};
pub use soft::SoftHeads;
pub use weights::ScaledHeads;

/// An attention head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Head {
    /// The layer, from 0.
    pub layer: usize,
    /// The number of the layer's attention among the model's stages.
    pub stage: usize,
    /// The query head, from 0.
    pub head: usize,
}
