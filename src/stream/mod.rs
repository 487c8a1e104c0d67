//! (stream)
