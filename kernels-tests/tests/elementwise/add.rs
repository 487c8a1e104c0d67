//! `y += x` on every device.

use efface::kernels::elementwise::add::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

#[test]
fn matches_float64() {
    let mut random = Random::new("elementwise/add");
    for count in [1, 255, 257, random.size(1, 100_000)] {
        let (x, y) = (random.values(count), random.values(count));
        let want: Vec<f64> = wide(&x).iter().zip(wide(&y)).map(|(x, y)| x + y).collect();
        for device in devices() {
            let (bx, by) = (device.upload_new(&x).unwrap(), device.upload_new(&y).unwrap());
            run(device, count, &bx, &by).unwrap();
            assert_close(&device.name(), &device.read::<f32>(&by, count).unwrap(), &want, 1e-7);
        }
        let mut plain = y.clone();
        reference(&Params { count: count as u32 }, &x, &mut plain);
        assert_close("reference", &plain, &want, 1e-7);
    }
}
