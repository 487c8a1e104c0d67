//! Tests of the elementwise kernels.
mod add;
