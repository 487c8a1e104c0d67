//! `y = x` on every device.

use efface::kernels::roof::copy::{Params, reference, run};
use kernels_tests::{Random, devices};

#[test]
fn copies_what_it_is_told_and_nothing_else() {
    let mut random = Random::new("roof/copy");
    for quads in [1, 255, 257, random.size(1, 30_000)] {
        let count = 4 * quads;
        let (x, y) = (random.values(count + 4), random.values(count + 4));
        let want: Vec<f32> = x[..count].iter().chain(&y[count..]).copied().collect();
        for device in devices() {
            let (bx, by) = (device.upload_new(&x).unwrap(), device.upload_new(&y).unwrap());
            run(device, count, &bx, &by).unwrap();
            assert_eq!(device.read::<f32>(&by, count + 4).unwrap(), want, "{}", device.name());
            assert!(run(device, count + 1, &bx, &by).unwrap_err().is_input());
        }
        let mut plain = y.clone();
        reference(&Params { count: quads as u32 }, &x, &mut plain);
        assert_eq!(plain, want);
    }
}
