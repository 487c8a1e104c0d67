//! The cases of every registered kernel, a file for each family. A launch gets what it gets in a pass: the shapes of a
//! layer, samples of [`SAMPLE`] tokens packed one after the other.

mod activation;
mod attention;
mod elementwise;
mod embedding;
mod linear;
mod loss;
mod norm;
mod roof;
mod update;
mod vector;

use super::{Case, Shape};
use crate::device::Device;

/// Tokens of a sample; a last one may be shorter.
pub const SAMPLE: usize = 64;

/// Sums of a few thousand random terms, each rounded to f32, are right to within this.
const TOLERANCE: f64 = 1e-5;

/// Every case at these shapes and numbers of tokens.
pub fn all(shapes: &[&'static Shape], tokens: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in shapes {
        for tokens in tokens {
            for family in [
                linear::cases,
                attention::cases,
                norm::cases,
                activation::cases,
                elementwise::cases,
                embedding::cases,
                loss::cases,
                vector::cases,
            ] {
                family(shape, *tokens, &mut cases);
            }
        }
        // Updates do not know of tokens.
        update::cases(shape, &mut cases);
        roof::cases(shape, &mut cases);
    }
    cases
}

/// Rows of a `[_, columns]` matrix of `f32` that one binding of the device holds, at most `rows`.
fn fitting_rows(device: &Device, rows: usize, columns: usize) -> usize {
    crate::model::weights::slice_rows(0..rows, columns, device.binding_limit())[0].len()
}
