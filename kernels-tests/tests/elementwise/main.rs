//! Tests of the elementwise kernels.
mod add;
mod broadcast_rows;
