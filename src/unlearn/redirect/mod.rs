//! Redirecting concepts: a change of low rank in a few early layers, after which the model takes one name for another. It needs
//! names only: no wording of what is to be forgotten, and no training (after ROCR, IEEE S&P 2026, and MEMIT, ICLR 2023).
//!
//! What enters a layer's projection down at a name's token is a *key*, by which the layer looks up what it knows; what the last
//! edited layer puts out there is the *state* that later layers read the facts from. Layer after layer, the keys' outputs are
//! moved so that the states become those of another name, by a change that leaves alone what ordinary text uses.
//!
//! | file | what it holds |
//! |---|---|
//! | `contexts.rs` | names in contexts, as tokens |
//! | `beginnings.rs` | which beginnings of names lead to what is to be forgotten |
//! | `spots.rs` | which tokens are keys, and where their states should go |
//! | `states.rs` | keys and states at these tokens: a pass that goes forward only |
//! | `covariance.rs` | E\[kkᵀ\] of ordinary text at a layer, streamed, and its file |
//! | `subspace.rs`, `ordinary.rs` | what of it is dominant; how far keys lie beside it |
//! | `solve.rs` | the change: one n×n solve for n keys |
//! | `weights.rs` | the weights with changes on top |
//! | `strength.rs` | how much of it is taken |

mod beginnings;
mod contexts;
pub mod covariance;
mod ordinary;
mod solve;
mod spots;
mod states;
mod strength;
mod subspace;
mod weights;

use std::sync::Arc;

use faer::Mat;

pub use beginnings::{Beginning, Candidate, LEADS, beginnings, leading};
pub use contexts::{Context, Named, of_openings, of_phrasings, usual, write};
pub use covariance::{Covariance, Provenance, Site, sites};
pub use ordinary::Ordinary;
pub use solve::{Factors, Fit, solve};
use spots::{Keys, keys};
pub use spots::{Request, Reversed, samples};
pub use states::{Place, States, states};
pub use strength::{Taken, share, within};
pub use subspace::{Subspace, dominant};
pub use weights::{Change, RedirectedWeights};

use crate::data::Encoder;
use crate::device::Device;
use crate::model::weights::WeightSource;
use crate::model::{Model, Stage};
use crate::stream::{Pass, PassOptions, Progress};
use crate::unlearn::methods::FULL;
use crate::{Error, Result};

/// Which of a name's tokens are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyTokens {
    /// The last, where a name is complete.
    #[default]
    Last,
    /// The first as well: what a name begins with is changed wherever it stands.
    FirstAndLast,
}

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Leave alone the eigenvectors of ordinary keys from this multiple of the mean eigenvalue on, and nothing else. (ROCR's
    /// absolute 0.02 belongs to its models' scale.) None: every direction counts as much as ordinary text uses it.
    pub bound: Option<f64>,
    /// What a change's effect on ordinary text costs: λ, as a multiple of the keys' mean kᵀMk ([`solve`]).
    pub ridge: f64,
    /// Where the iteration for the subspace begins.
    pub seed: u64,
    /// How passes are run.
    pub pass: PassOptions,
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
    /// Mean distance of the states from where they should be, before this layer's change.
    pub distance: f64,
}

/// Changes, ready to be tried at any strength.
#[derive(Clone, Debug)]
pub struct Redirection {
    /// One for each layer, ascending.
    pub changes: Vec<Arc<Change>>,
    /// What became of the layers.
    pub layers: Vec<LayerReport>,
    /// Mean distance of the states from where they should be, with all changes.
    pub distance: f64,
}

/// The layers that are edited where none are named: an eighth of the depth, from a tenth of it on. (ROCR edits layers 4 to 6 or
/// 8 of 32.)
pub fn usual_layers(model: &Model) -> Vec<usize> {
    let depth = model.stages.iter().filter(|stage| matches!(stage, Stage::Mlp(_))).count();
    let first = (depth / 10).min(depth - 1);
    (first..(first + (depth / 8).max(1)).min(depth)).collect()
}

/// Redirects names: for each of `sites`, ascending, measures keys and states with the changes so far, and makes up for an equal
/// part of the distance that is left: r = (z − h) / (m − j) for the j-th of m. `covariances` are those of the sites.
///
/// # Errors
/// When a name or an option is wrong, nothing can be changed, or a pass fails.
pub fn redirect(
    device: &Device,
    (model, base): (&Arc<Model>, &Arc<dyn WeightSource>),
    encoder: &dyn Encoder,
    request: &Request,
    (sites, covariances): (&[Site], &[Covariance]),
    options: &Options,
    progress: Progress<'_>,
) -> Result<Redirection> {
    if let Some(bound) = options.bound.filter(|bound| !(bound.is_finite() && *bound > 0.0)) {
        return Err(Error::argument(format!("the bound is a number above 0, not {bound}")));
    }
    let Some(last) = sites.last() else { return Err(Error::argument("no layer is to be edited")) };
    let steps = sites.len() as u64 + 2;
    let at = |step: u64| move |done: u64, of: u64| progress(step * 1000 + done * 1000 / of.max(1), steps * 1000);
    let pass = |changes: &[Arc<Change>]| {
        let weights = RedirectedWeights::new(base.clone(), model, changes, FULL)?;
        Pass::over(device, model.clone(), Arc::new(weights), options.pass)
    };
    let keys = keys(&pass(&[])?, encoder, request, last.stage, &at(0))?;
    let (mut changes, mut layers) = (Vec::new(), Vec::new());
    for (j, (site, covariance)) in sites.iter().zip(covariances).enumerate() {
        let tick = at(1 + j as u64);
        let now = states(&pass(&changes)?, &keys.samples, &keys.places, Some(site), last.stage, &tick)?;
        let share = 1.0 / (sites.len() - j) as f64;
        let residuals = matrix(site.outputs, keys.places.len(), &|o, i| {
            (f64::from(keys.targets[i][o]) - f64::from(now.states[i][o])) * share
        });
        let k = matrix(site.inputs, keys.places.len(), &|o, i| f64::from(now.keys[i][o]));
        let ordinary = Ordinary::of(covariance, options.bound, options.seed)?;
        let (factors, fit) = solve(&k, &residuals, &ordinary, options.ridge)?;
        let distance = distance(&keys, &now.states);
        layers.push(LayerReport { layer: site.layer, keys: k.ncols(), rank: ordinary.rank(), fit, distance });
        changes.push(Arc::new(Change { site: site.clone(), factors }));
    }
    let end = states(&pass(&changes)?, &keys.samples, &keys.places, None, last.stage, &at(steps - 1))?;
    Ok(Redirection { changes, layers, distance: distance(&keys, &end.states) })
}

fn matrix(rows: usize, columns: usize, at: &dyn Fn(usize, usize) -> f64) -> Mat<f64> {
    Mat::from_fn(rows, columns, at)
}

/// The mean Euclidean distance of the states that should move from where they should be.
fn distance(keys: &Keys, states: &[Vec<f32>]) -> f64 {
    let one = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
    };
    let all = keys.targets.iter().zip(states).zip(&keys.stays);
    let moving = all.filter(|(_, stays)| !**stays).map(|(pair, _)| one(pair));
    moving.sum::<f64>() / keys.stays.iter().filter(|stays| !**stays).count().max(1) as f64
}
