//! Tests of the linear kernels.
mod matmul_nt;

use efface::Element;
use kernels_tests::Random;

/// A random stored matrix: its bytes, and its numbers after the rounding of storage.
fn stored(random: &mut Random, element: Element, count: usize) -> (Vec<u8>, Vec<f32>) {
    let bytes = element.encode(&random.values(count));
    let mut values = vec![0.0; count];
    element.decode(&bytes, &mut values).unwrap();
    (bytes, values)
}
