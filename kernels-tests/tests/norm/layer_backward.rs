//! LayerNorm backward on every device.

use efface::kernels::Window;
use efface::kernels::norm::layer_backward::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::{input_gradient, layer};

#[test]
fn matches_differences_in_float64() {
    let mut random = Random::new("norm/layer_backward");
    for accumulate in [false, true] {
        let heads = 1;
        let (tokens, width, epsilon) = (random.size(1, 9), random.size(2, 70), 1e-5);
        let (offset, stride) = (3, 3 + heads * width + 2);
        let (x, dy, dx) =
            (random.values(tokens * stride), random.values(tokens * stride), random.values(tokens * stride));
        let gain = random.values(width);
        let (mut want, mut want_terms) = (wide(&dx), Vec::new());
        for row in 0..tokens * heads {
            let first = row / heads * stride + offset + row % heads * width;
            let [x, dy] = [&x, &dy].map(|v| wide(&v[first..first + width]));
            let ones = vec![1.0; width];
            want_terms.extend(layer(&x, &ones, f64::from(epsilon)).iter().zip(&dy).map(|(x, d)| x * d));
            let gradient = input_gradient(layer, &x, &wide(&gain), f64::from(epsilon), &dy);
            for (want, gradient) in want[first..].iter_mut().zip(gradient) {
                *want = gradient + if accumulate { *want } else { 0.0 };
            }
        }
        for device in devices() {
            let [bx, bg, bdy, bdx] = [&x, &gain, &dy, &dx].map(|v| device.upload_new(v).unwrap());
            let terms = device.allocate(want_terms.len() as u64 * 4).unwrap();
            let [wx, wdy, wdx] = [&bx, &bdy, &bdx].map(|b| Window::at(b, stride, offset));
            run(device, tokens, width, epsilon, wx, &bg, wdy, wdx, accumulate, &terms).unwrap();
            assert_close(&device.name(), &device.read::<f32>(&bdx, dx.len()).unwrap(), &want, 2e-6);
            assert_close("terms", &device.read::<f32>(&terms, want_terms.len()).unwrap(), &want_terms, 1e-6);
        }
        let params = Params {
            rows: (tokens * heads) as u32,
            width: width as u32,
            x_stride: stride as u32,
            x_offset: offset as u32,
            dy_stride: stride as u32,
            dy_offset: offset as u32,
            dx_stride: stride as u32,
            dx_offset: offset as u32,
            accumulate: u32::from(accumulate),
            epsilon,
        };
        let (mut plain, mut terms) = (wide(&dx), vec![0.0; want_terms.len()]);
        reference(&params, &wide(&x), &wide(&gain), &wide(&dy), &mut plain, &mut terms);
        let narrow = |v: &[f64]| v.iter().map(|v| *v as f32).collect::<Vec<_>>();
        assert_close("reference", &narrow(&plain), &want, 1e-6);
        assert_close("reference's terms", &narrow(&terms), &want_terms, 1e-6);
    }
}
