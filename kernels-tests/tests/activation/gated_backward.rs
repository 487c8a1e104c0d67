//! Gradient of `f(gate) up` on every device, against differences of the function in float64.

use efface::kernels::activation::Activation;
use efface::kernels::activation::gated_backward::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::{derivative, value};

#[test]
fn matches_float64() {
    let mut random = Random::new("activation/gated_backward");
    for activation in Activation::ALL {
        let (tokens, width) = (random.size(1, 40), random.size(1, 300));
        let gate_up: Vec<f32> = random.values(tokens * 2 * width).iter().map(|v| v * 4.0).collect();
        let dy = random.values(tokens * width);
        let mut want = vec![0.0; gate_up.len()];
        for (t, row) in wide(&gate_up).chunks(2 * width).enumerate() {
            for i in 0..width {
                let dy = f64::from(dy[t * width + i]);
                want[t * 2 * width + i] = dy * row[width + i] * derivative(activation, row[i]);
                want[t * 2 * width + width + i] = dy * value(activation, row[i]);
            }
        }
        for device in devices() {
            let [input, bdy] = [&gate_up, &dy].map(|v| device.upload_new(v).unwrap());
            let out = device.allocate((want.len() * 4) as u64).unwrap();
            run(device, activation, tokens, width, &input, &bdy, &out).unwrap();
            let what = format!("{activation:?} {tokens}x{width} {}", device.name());
            assert_close(&what, &device.read::<f32>(&out, want.len()).unwrap(), &want, 5e-7);
        }
        let mut plain = vec![0.0; want.len()];
        let p = Params { tokens: tokens as u32, width: width as u32 };
        reference(&p, activation, &gate_up, &dy, &mut plain);
        assert_close("reference", &plain, &want, 5e-7);
    }
}
