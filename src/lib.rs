//! efface removes chosen knowledge from a trained model without retraining it.
pub mod checkpoint;
pub mod data;
pub mod device;
mod element;
mod error;
pub mod eval;
pub mod kernels;
pub mod model;
pub mod random;
pub mod report;
pub mod stream;
pub mod unlearn;

pub use element::Element;
pub use error::{Error, Result};
