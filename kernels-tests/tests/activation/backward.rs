//! `dx = dy f'(x)` on every device, against differences of the function in float64.

use efface::kernels::activation::Activation;
use efface::kernels::activation::backward::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::{arguments, derivative};

#[test]
fn matches_float64() {
    let mut random = Random::new("activation/backward");
    for activation in Activation::ALL {
        for count in [1, random.size(257, 30_000)] {
            let (x, dy) = (arguments(&mut random, count), random.values(count));
            let want: Vec<f64> =
                wide(&x).into_iter().zip(wide(&dy)).map(|(x, dy)| dy * derivative(activation, x)).collect();
            for device in devices() {
                let [bx, bdy] = [&x, &dy].map(|v| device.upload_new(v).unwrap());
                let bdx = device.allocate((count * 4) as u64).unwrap();
                run(device, activation, count, &bx, &bdy, &bdx).unwrap();
                let what = format!("{activation:?} {}", device.name());
                assert_close(&what, &device.read::<f32>(&bdx, count).unwrap(), &want, 5e-7);
            }
            let mut plain = vec![0.0; count];
            reference(&Params { count: count as u32 }, activation, &x, &dy, &mut plain);
            assert_close("reference", &plain, &want, 5e-7);
        }
    }
}
