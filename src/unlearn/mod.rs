//! Measure, choose, change: importance of parameters for sets of samples, the rules that select by it, and the updates.

pub mod accuracy;
mod dampened;
pub mod edit;
pub mod estimator;
pub mod forget;
pub mod forms;
pub mod fused;
pub mod grads;
pub mod heads;
pub mod importance;
pub mod measured;
pub mod methods;
pub mod names;
pub mod norms;
mod outcome;
pub mod overlap;
pub mod own_texts;
pub mod redirect;
pub mod resume;
pub mod selection;
pub mod store;
pub mod train;
mod workspace;
mod writer;
