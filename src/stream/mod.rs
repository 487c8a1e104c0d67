//! How a model larger than the device goes through it: the plan made beforehand, the thread that reads ahead, and the pass
//! that brings a stage in, runs a group's samples through it and lets it go.

mod activations;
mod budgets;
mod decode_plan;
mod decoder;
mod group;
mod head;
mod intervention;
mod loader;
mod moments;
mod notebook;
mod objective;
mod observer;
mod pass;
pub mod plan;
mod terms;

pub use budgets::Budgets;
pub use decode_plan::{DecodePlan, Extent};
pub use decoder::{Decoder, Draws, Sequences};
pub use intervention::Intervention;
pub use loader::{CheckpointWeights, Loader};
pub use moments::SampleMoments;
pub use objective::{CrossEntropy, Objective, OldStates, PerSample, SampleObjective, SquareNorm, Term};
pub use observer::Observer;
pub use pass::{Pass, machine_memory};
pub use plan::{Demand, Limits, Plan};
pub use terms::{Journal, Labels, PassOptions, PassReport, Progress, ResumePoint, SampleLoss, Unit, Weighted};
