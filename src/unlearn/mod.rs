//! (unlearn)
