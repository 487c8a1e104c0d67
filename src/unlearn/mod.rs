//! Measure, choose, change: importance of parameters for sets of samples, the rules that select by it, and the updates.

pub mod estimator;
pub mod importance;
pub mod store;
