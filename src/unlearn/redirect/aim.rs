//! What a redirection aims at, measured once, and the changes that follow from it: how much of the way is gone depends on the
//! ridge, what lies at its ends does not.

use std::borrow::Cow;
use std::sync::Arc;

use faer::Mat;

use super::covariance::{Covariance, Site};
use super::ordinary::Ordinary;
use super::solve::solve;
use super::spots::{Keys, Request, keys};
use super::states::{States, states};
use super::weights::{Change, RedirectedWeights};
use super::{LayerReport, Redirection};
use crate::data::Encoder;
use crate::device::Device;
use crate::model::Model;
use crate::model::weights::WeightSource;
use crate::stream::{Pass, PassOptions, Progress};
use crate::unlearn::methods::FULL;
use crate::{Error, Result};

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Leave alone the eigenvectors of ordinary keys from this multiple of the mean eigenvalue on, and nothing else. (ROCR's
    /// absolute 0.02 belongs to its models' scale.) None: every direction counts as much as ordinary text uses it.
    pub bound: Option<f64>,
    /// What a change's effect on ordinary text costs against meeting its aim: λ, as a multiple of the keys' mean kᵀMk ([`solve`]).
    pub ridge: f64,
    /// Where the iteration for the subspace begins.
    pub seed: u64,
    /// How passes are run.
    pub pass: PassOptions,
}

/// Keys, what they are now and where their states should go, and what ordinary text uses of the layers that are edited.
pub struct Aim {
    device: Device,
    model: Arc<Model>,
    base: Arc<dyn WeightSource>,
    sites: Vec<Site>,
    ordinary: Vec<Ordinary>,
    keys: Keys,
    ridge: f64,
    pass: PassOptions,
}

impl std::fmt::Debug for Aim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aim").field("sites", &self.sites).field("keys", &self.keys.places.len()).finish_non_exhaustive()
    }
}

impl Aim {
    /// Measures where the names of a request are and where they should go, with one pass. `sites` are the layers to be edited,
    /// ascending, `covariances` those of ordinary text there.
    ///
    /// # Errors
    /// When a name or an option is wrong, no layer is to be edited, or the pass fails.
    pub fn new(
        device: &Device,
        (model, base): (&Arc<Model>, &Arc<dyn WeightSource>),
        encoder: &dyn Encoder,
        request: &Request,
        (sites, covariances): (&[Site], &[Covariance]),
        options: Options,
        progress: Progress<'_>,
    ) -> Result<Self> {
        let Options { bound, ridge, seed, pass } = options;
        if let Some(bound) = bound.filter(|bound| !(bound.is_finite() && *bound > 0.0)) {
            return Err(Error::argument(format!("the bound is a number above 0, not {bound}")));
        }
        let (Some(first), Some(last)) = (sites.first(), sites.last()) else {
            return Err(Error::argument("no layer is to be edited"));
        };
        let now = Pass::over(device, model.clone(), base.clone(), pass)?;
        let keys = keys(&now, encoder, request, (first, last.stage), progress)?;
        let ordinary = covariances.iter().map(|covariance| Ordinary::of(covariance, bound, seed));
        let ordinary = ordinary.collect::<Result<_>>()?;
        let (device, model, base, sites) = (device.clone(), model.clone(), base.clone(), sites.to_vec());
        Ok(Aim { device, model, base, sites, ordinary, keys, ridge, pass })
    }

    /// Changes layer after layer: measures keys and states with the changes so far, and makes up for an equal part of the distance
    /// that is left: r = (z − h) / (m − j) for the j-th of m. The ridge of keys that move is `times` that of the options; what stays
    /// is held as firmly however little is moved.
    ///
    /// # Errors
    /// When a ridge is not above 0, nothing can be changed, or a pass fails.
    pub fn redirect(&self, times: f64, progress: Progress<'_>) -> Result<Redirection> {
        let passes = self.sites.len() as u64 - 1;
        let ridge = |stays: &bool| if *stays { self.ridge } else { self.ridge * times };
        let ridges: Vec<f64> = self.keys.stays.iter().map(ridge).collect();
        let (mut changes, mut layers) = (Vec::new(), Vec::new());
        for (j, (site, ordinary)) in self.sites.iter().zip(&self.ordinary).enumerate() {
            let tick = |done: u64, of: u64| progress((j as u64 - 1) * of + done, passes * of);
            let now = match j {
                0 => Cow::Borrowed(&self.keys.now),
                _ => Cow::Owned(self.measure(&changes, Some(site), &tick)?),
            };
            let share = 1.0 / (self.sites.len() - j) as f64;
            let (targets, count) = (&self.keys.targets, self.keys.places.len());
            let residuals = Mat::from_fn(site.outputs, count, |o, i| {
                (f64::from(targets[i][o]) - f64::from(now.states[i][o])) * share
            });
            let k = Mat::from_fn(site.inputs, count, |o, i| f64::from(now.keys[i][o]));
            let (factors, fit) = solve(&k, &residuals, ordinary, &ridges)?;
            let distance = self.keys.distance(&now.states);
            layers.push(LayerReport { layer: site.layer, keys: count, rank: ordinary.rank(), fit, distance });
            changes.push(Arc::new(Change { site: site.clone(), factors }));
        }
        Ok(Redirection { changes, layers })
    }

    /// The mean distance of the states that should move from where they should be, with changes.
    ///
    /// # Errors
    /// When the pass fails.
    pub fn distance(&self, changes: &[Arc<Change>], progress: Progress<'_>) -> Result<f64> {
        Ok(self.keys.distance(&self.measure(changes, None, progress)?.states))
    }

    fn measure(&self, changes: &[Arc<Change>], site: Option<&Site>, progress: Progress<'_>) -> Result<States> {
        let weights = RedirectedWeights::new(self.base.clone(), &self.model, changes, FULL)?;
        let pass = Pass::over(&self.device, self.model.clone(), Arc::new(weights), self.pass)?;
        states(&pass, &self.keys.samples, &self.keys.places, site, self.sites[self.sites.len() - 1].stage, progress)
    }
}
