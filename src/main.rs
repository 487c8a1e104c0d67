//! The command line of efface.
fn main() {}
