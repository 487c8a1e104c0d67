//! (eval)
