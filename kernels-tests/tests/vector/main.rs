//! Tests of the vector kernels.
mod grads;
mod importance;
