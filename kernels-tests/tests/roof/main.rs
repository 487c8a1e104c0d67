//! Tests of the kernels that measure roofs: they are worth nothing if they do not do the work that they are timed for.
mod copy;
mod multiply_add;
