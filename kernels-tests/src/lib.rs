//! Shared helpers of the kernel tests.
