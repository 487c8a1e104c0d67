//! Tests of the kernels of vector parameters.
mod grads;
mod importance;
