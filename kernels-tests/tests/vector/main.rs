//! Tests of the vector kernels.
mod importance;
