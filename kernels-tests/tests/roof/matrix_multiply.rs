//! Products of fragments on every device and unit, against their sum in float64.

use efface::kernels::precision::Unit;
use efface::kernels::roof::matrix_multiply::{INVOCATIONS, Params, reference, run};
use kernels_tests::{Random, assert_close, devices};

#[test]
fn every_sum_has_every_round() {
    let mut random = Random::new("roof/matrix_multiply");
    for rounds in [0, 1, random.size(2, 5) as u32] {
        for unit in Unit::ALL {
            let side = if unit == Unit::Matrix8 { 8.0 } else { 16.0 };
            // Sixteen sums of (1 + i) (1 + j) / 16 for every k and round, at an invocation's share of the elements.
            let want = f64::from(rounds) * side * 100.0 / 16.0 * (side * side / 32.0);
            for device in devices().iter().filter(|device| unit.is_offered(device.features())) {
                let sums = device.allocate(INVOCATIONS as u64 * 4).unwrap();
                run(device, unit, rounds, &sums).unwrap();
                let got = device.read::<f32>(&sums, INVOCATIONS).unwrap();
                assert_close(&format!("{} {unit:?}", device.name()), &got, &vec![want; INVOCATIONS], 1e-6);
            }
            let mut plain = [0.0; 3];
            reference(&Params { rounds }, unit, &mut plain);
            assert_eq!(plain, [want; 3]);
        }
    }
}
