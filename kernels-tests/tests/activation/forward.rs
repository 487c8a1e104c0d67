//! The activation function on every device.

use efface::kernels::activation::Activation;
use efface::kernels::activation::forward::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices};

use crate::{arguments, value};

#[test]
fn matches_float64() {
    let mut random = Random::new("activation/forward");
    for activation in Activation::ALL {
        let count = random.size(1, 3000);
        let x = arguments(&mut random, count);
        let want: Vec<f64> = x.iter().map(|x| value(activation, f64::from(*x))).collect();
        for device in devices() {
            let bx = device.upload_new(&x).unwrap();
            let by = device.allocate(count as u64 * 4).unwrap();
            run(device, activation, count, &bx, &by).unwrap();
            let got = device.read::<f32>(&by, count).unwrap();
            assert_close(&format!("{activation:?} on {}", device.name()), &got, &want, 1e-6);
        }
        let mut plain = vec![0.0; count];
        reference(activation, &Params { count: count as u32 }, &x, &mut plain);
        assert_close("reference", &plain, &want, 1e-6);
    }
}
