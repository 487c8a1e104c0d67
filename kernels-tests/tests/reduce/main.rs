//! Tests of the reductions.
mod square_sum;
