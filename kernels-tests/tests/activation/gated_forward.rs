//! `y = f(gate) up` on every device.

use efface::kernels::activation::Activation;
use efface::kernels::activation::gated_forward::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::value;

#[test]
fn matches_float64() {
    let mut random = Random::new("activation/gated_forward");
    for activation in Activation::ALL {
        let (tokens, width) = (random.size(1, 40), random.size(1, 300));
        let gate_up: Vec<f32> = random.values(tokens * 2 * width).iter().map(|v| v * 4.0).collect();
        let want: Vec<f64> = wide(&gate_up)
            .chunks(2 * width)
            .flat_map(|row| (0..width).map(|i| value(activation, row[i]) * row[width + i]).collect::<Vec<_>>())
            .collect();
        for device in devices() {
            let (input, y) = (device.upload_new(&gate_up).unwrap(), device.allocate((want.len() * 4) as u64).unwrap());
            run(device, activation, tokens, width, &input, &y).unwrap();
            let what = format!("{activation:?} {tokens}x{width} {}", device.name());
            assert_close(&what, &device.read::<f32>(&y, want.len()).unwrap(), &want, 5e-7);
        }
        let mut plain = vec![0.0; want.len()];
        reference(&Params { tokens: tokens as u32, width: width as u32 }, activation, &gate_up, &mut plain);
        assert_close("reference", &plain, &want, 5e-7);
    }
}
