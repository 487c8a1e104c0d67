//! Chains of multiply-adds on every device, against the sum of their geometric series in float64.

use efface::kernels::roof::multiply_add::{INVOCATIONS, run};
use kernels_tests::{Random, assert_close, devices};

#[test]
fn every_chain_does_every_round() {
    let mut random = Random::new("roof/multiply_add");
    // After few rounds every one of them shows; after many, the chains have met.
    for rounds in [0, 1, random.size(2, 9) as u32] {
        // v -> v / 2 + 1 / 2, so v - 1 is halved by every round.
        let left = 0.5f64.powi(rounds as i32);
        let of = |i: usize| (0..8).map(|chain| 4.0 * (1.0 + ((i % 7 + chain) as f64 - 1.0) * left)).sum::<f64>();
        let want: Vec<f64> = (0..INVOCATIONS).map(of).collect();
        for device in devices() {
            let sums = device.allocate(INVOCATIONS as u64 * 4).unwrap();
            run(device, rounds, &sums).unwrap();
            assert_close(&device.name(), &device.read::<f32>(&sums, INVOCATIONS).unwrap(), &want, 1e-6);
        }
    }
}
