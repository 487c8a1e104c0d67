//! efface inside another program: the Fisher diagonal of a model for a few samples, on a device of the caller's choice.
//!
//!     cargo run --release --example embed -- MODEL_DIRECTORY
//!
//! A program that has a wgpu device of its own passes it as `Device::from_wgpu(device, queue, memory)` instead.

use std::path::PathBuf;
use std::sync::Arc;

use efface::checkpoint::Checkpoint;
use efface::device::{Choice, open};
use efface::model::Model;
use efface::model::batch::Tokens;
use efface::stream::{Pass, PassOptions};
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::importance::{ImportanceSink, Kind};
use efface::unlearn::store::MemoryStore;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).map_or_else(|| PathBuf::from("demo/model"), PathBuf::from);
    let checkpoint = Arc::new(Checkpoint::open(&directory)?);
    let model = Arc::new(Model::of(&checkpoint)?);
    let device = open(Choice::Auto, None)?;

    // Two samples; every token but the first is a target.
    let samples: Vec<Arc<Tokens>> = [[1u32, 2, 3, 4, 5], [5, 4, 3, 2, 1]]
        .iter()
        .enumerate()
        .map(|(number, ids)| Arc::new(Tokens::new(ids, &ids.map(|id| id as i32), number as u32)))
        .collect();
    let units = Estimator::Sample.units(&samples, Loss::Mean, BatchWeight::Samples);

    let mut store = MemoryStore::new(&model);
    let mut sink = ImportanceSink::new(&model, Kind::Fisher.sums().to_vec(), &mut store);
    let pass = Pass::new(&device, model.clone(), checkpoint, PassOptions::default())?;
    let report = pass.gradients(&units, &mut sink, &|_, _| {})?;

    println!("{} on {}", directory.display(), device.name());
    println!("losses: {:?}", report.losses.iter().map(|loss| loss.mean()).collect::<Vec<_>>());
    for (id, parameter) in model.parameters.iter().enumerate().take(5) {
        let fisher = Kind::Fisher.figure(&store, id, units.len())?;
        println!("{:40} mean Fisher {:.3e}", parameter.name, fisher.iter().sum::<f32>() / fisher.len() as f32);
    }
    Ok(())
}
