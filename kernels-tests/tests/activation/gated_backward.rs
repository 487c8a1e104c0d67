//! The gated activation's input gradients on every device.

use efface::kernels::activation::Activation;
use efface::kernels::activation::gated_backward::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::{arguments, slope, value};

#[test]
fn matches_float64() {
    let mut random = Random::new("activation/gated_backward");
    for activation in Activation::ALL {
        let (tokens, width) = (random.size(1, 30), random.size(1, 90));
        let x = arguments(&mut random, tokens * 2 * width);
        let d = random.values(tokens * width);
        let wide_x = wide(&x);
        let mut want = vec![0.0; tokens * width * 2];
        for t in 0..tokens {
            for i in 0..width {
                let (gate, up) = (wide_x[t * 2 * width + i], wide_x[t * 2 * width + width + i]);
                let delta = f64::from(d[t * width + i]);
                want[t * 2 * width + i] = delta * up * slope(activation, gate);
                want[t * 2 * width + width + i] = delta * value(activation, gate);
            }
        }
        for device in devices() {
            let [bx, bd] = [&x, &d].map(|v| device.upload_new(v).unwrap());
            let by = device.allocate(want.len() as u64 * 4).unwrap();
            run(device, activation, tokens, width, &bx, &bd, &by).unwrap();

            let got = device.read::<f32>(&by, want.len()).unwrap();
            assert_close(&format!("{activation:?} on {}", device.name()), &got, &want, 1e-6);
        }
        let mut plain = vec![0.0; want.len()];
        let params = Params { tokens: tokens as u32, width: width as u32 };
        reference(activation, &params, &x, &d, &mut plain);
        assert_close("reference", &plain, &want, 1e-6);
    }
}
