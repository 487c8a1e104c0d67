//! A golden checkpoint on a device, whose names are redirected at some layers, and the states of names under changes.

use std::sync::Arc;

use efface::Result;
use efface::device::Device;
use efface::model::weights::WeightSource;
use efface::stream::{CheckpointWeights, Pass, PassOptions};
use efface::unlearn::redirect::{
    Aim, Change, Context, Covariance, KeyTokens, Options, RedirectedWeights, Redirection, Request, Site, sites, states,
    write,
};

use super::bytes::Bytes;
use super::{Golden, nothing};

/// All that redirecting takes but a request.
pub struct Scene {
    pub golden: Golden,
    pub base: Arc<dyn WeightSource>,
    pub sites: Vec<Site>,
    /// Nothing of any layer is ordinary, unless a test says so.
    pub ordinary: Vec<Covariance>,
    pub options: Options,
    encoder: Bytes,
    device: Device,
}

impl Scene {
    /// The golden checkpoint `name`; `begin` is the token that begins every text, if one does.
    pub fn open(device: &Device, name: &str, layers: &[usize], begin: Option<u32>) -> Self {
        let golden = Golden::open(name);
        let sites = sites(&golden.model, layers).unwrap();
        let none = |site: &Site| Covariance { width: site.inputs, values: vec![0.0; site.inputs * site.inputs] };
        Scene {
            base: Arc::new(CheckpointWeights::new(golden.checkpoint.clone())),
            ordinary: sites.iter().map(none).collect(),
            options: Options { bound: Some(1.0), ridge: 1e-7, seed: 3, pass: PassOptions::default() },
            encoder: Bytes { vocabulary: golden.model.config.vocabulary as u32, begin },
            device: device.clone(),
            sites,
            golden,
        }
    }

    /// What a request aims at.
    pub fn aim(&self, request: &Request) -> Result<Aim> {
        let over = (&self.golden.model, &self.base);
        let places = (&self.sites[..], &self.ordinary[..]);
        Aim::new(&self.device, over, &self.encoder, request, places, self.options, &nothing)
    }

    /// The whole of a redirection.
    pub fn redirect(&self, request: &Request) -> Redirection {
        self.aim(request).unwrap().redirect(1.0, &nothing).unwrap()
    }

    /// The state at a name's last token after the last edited layer, with changes.
    pub fn state(&self, changes: &[Arc<Change>], context: &Context, name: &str) -> Vec<f32> {
        let weights = RedirectedWeights::new(self.base.clone(), &self.golden.model, changes, 1.0).unwrap();
        let pass = Pass::over(&self.device, self.golden.model.clone(), Arc::new(weights), self.options.pass).unwrap();
        let named = write(&self.encoder, context, name).unwrap();
        let place = (0, named.last() as u32);
        let stage = self.sites.last().unwrap().stage;
        states(&pass, &[named.sample(0)], &[place], None, stage, &nothing).unwrap().states.remove(0)
    }
}

/// `names` become `instead` in `contexts`, at their last tokens.
pub fn request(names: &[&str], instead: &[&str], contexts: &[Context]) -> Request {
    let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    Request {
        names: owned(names),
        instead: owned(instead),
        contexts: contexts.to_vec(),
        tokens: KeyTokens::Last,
        beginnings: Vec::new(),
        reversed: Vec::new(),
        held: Vec::new(),
    }
}

/// A text before a name.
pub fn plain(text: &str) -> Context {
    Context::Plain(text.into())
}
