//! Kernels that treat every element alike.

pub mod add;
