//! efface removes chosen knowledge from a trained model without retraining it.
//!
//! *Measure* what every weight means to what is to be forgotten and to what is to be kept, *choose* the weights that the first
//! needs far more, *change* only those, and *prove* it with questions that the removal has not seen.
//!
//! | module | what it is for |
//! |---|---|
//! | [`device`] | a GPU or the CPU behind one interface, with a hard memory budget |
//! | [`kernels`] | the computations, each as a shader and as its twin on the CPU |
//! | [`checkpoint`] | reading, writing and patching Hugging Face checkpoints |
//! | [`model`] | what the families' layers compute, forward and backward |
//! | [`stream`] | samples through a model that may be larger than the device |
//! | [`data`] | files of records as samples and as probes |
//! | [`unlearn`] | importance, selection, the edit, training |
//! | [`eval`] | how well a model answers |
//! | [`profile`] | where a recorded run's time went |
//! | [`report`] | pages, tables and JSON |
//! | [`stats`] | intervals, tests, areas under curves |
//! | [`bench`](mod@bench) | what the machine can do, and how close kernels and passes come to it |
//!
//! The main job is led by [`unlearn::forget`]; `examples/embed.rs` measures importance in a few lines. The library returns
//! [`Error`]s, never prints, and never panics on input. Results depend on the inputs, the settings, the seed and the device, and
//! not on the memory budget.
pub mod bench;
pub mod checkpoint;
pub mod data;
pub mod device;
mod element;
mod error;
pub mod eval;
pub mod kernels;
pub mod model;
pub mod profile;
pub mod random;
pub mod report;
pub mod stats;
pub mod stream;
pub mod unlearn;

pub use element::Element;
pub use error::{Error, Result};
