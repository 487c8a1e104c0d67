//! What a model computes at certain tokens: what enters some layers' projections down (keys), and the residual stream after a
//! layer (states).

use std::collections::HashMap;
use std::sync::Arc;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::Window;
use crate::model::batch::Tokens;
use crate::model::parameters::Linear;
use crate::model::sink::Context;
use crate::stream::{Observer, Pass, Progress};

use super::covariance::Site;

/// A token: its sample's number and its place in it.
pub type Place = (u32, u32);

/// What was computed at the places asked for, in their order.
#[derive(Clone, Debug, Default)]
pub struct States {
    /// The site's inputs; empty where no site was asked for.
    pub keys: Vec<Vec<f32>>,
    /// The residual stream.
    pub states: Vec<Vec<f32>>,
}

/// Runs `samples` forward up to `last_stage` and takes down what enters `site` and what leaves the last stage at `places`.
///
/// # Errors
/// When the pass fails.
pub fn states(
    pass: &Pass,
    samples: &[Arc<Tokens>],
    places: &[Place],
    site: Option<&Site>,
    last_stage: usize,
    progress: Progress<'_>,
) -> Result<States> {
    let mut wanted: HashMap<Place, Vec<usize>> = HashMap::new();
    places.iter().enumerate().for_each(|(i, place)| wanted.entry(*place).or_default().push(i));
    let empty = |there: bool| vec![Vec::new(); if there { places.len() } else { 0 }];
    let found = States { keys: empty(site.is_some()), states: empty(true) };
    let mut observer = Rows { wanted, site, last_stage, hidden: pass.model.config.hidden, found };
    pass.observe(samples, &mut observer, progress)?;
    Ok(observer.found)
}

struct Rows<'a> {
    wanted: HashMap<Place, Vec<usize>>,
    site: Option<&'a Site>,
    last_stage: usize,
    hidden: usize,
    found: States,
}

/// Reads the rows of `x` at the places that are `wanted` and hands them on.
fn rows(
    context: &Context<'_>,
    wanted: &HashMap<Place, Vec<usize>>,
    x: Window<'_>,
    width: usize,
    put: &mut dyn FnMut(usize, &[f32]),
) -> Result<()> {
    let mut row = vec![0.0; width];
    for (token, key) in context.batch.chunk.keys.chunks_exact(2).enumerate() {
        let Some(places) = wanted.get(&(key[0], key[1])) else { continue };
        read(context.device, x, token, &mut row)?;
        places.iter().for_each(|place| put(*place, &row));
    }
    Ok(())
}

fn read(device: &Device, x: Window<'_>, token: usize, row: &mut [f32]) -> Result<()> {
    let offset = (token * x.stride + x.offset) as u64 * 4;
    device.download(x.buffer, offset, bytemuck::cast_slice_mut(row))
}

impl Observer for Rows<'_> {
    fn last_stage(&self) -> usize {
        self.last_stage
    }

    fn site(&mut self, context: &Context<'_>, _: usize, linear: &Linear, x: Window<'_>) -> Result<()> {
        let Some(site) = self.site.filter(|site| site.parameter == linear.weight) else { return Ok(()) };
        let keys = &mut self.found.keys;
        rows(context, &self.wanted, x, site.inputs, &mut |place, row| keys[place] = row.to_vec())
    }

    fn output(&mut self, context: &Context<'_>, stage: usize, y: &Buffer) -> Result<()> {
        if stage != self.last_stage {
            return Ok(());
        }
        let states = &mut self.found.states;
        let window = Window::all(y, self.hidden);
        rows(context, &self.wanted, window, self.hidden, &mut |place, row| states[place] = row.to_vec())
    }
}
