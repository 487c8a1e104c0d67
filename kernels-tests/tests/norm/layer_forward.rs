//! LayerNorm on every device.

use efface::kernels::Window;
use efface::kernels::norm::layer_forward::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::layer;

#[test]
fn matches_float64() {
    let mut random = Random::new("norm/layer_forward");
    let heads = 1;
    let (tokens, width, epsilon) = (random.size(1, 40), random.size(2, 600), 1e-5);
    let (offset, stride) = (2, 2 + heads * width + 3);
    let (x, y) = (random.values(tokens * stride), random.values(tokens * stride));
    let (gain, bias) = (random.values(width), random.values(width));
    let mut want = wide(&y);
    for row in 0..tokens * heads {
        let first = row / heads * stride + offset + row % heads * width;
        let normed = layer(&wide(&x[first..first + width]), &wide(&gain), f64::from(epsilon));
        for ((want, y), bias) in want[first..].iter_mut().zip(normed).zip(wide(&bias)) {
            *want = y + bias;
        }
    }
    for device in devices() {
        let [bx, bg, by] = [&x, &gain, &y].map(|v| device.upload_new(v).unwrap());
        let bb = device.upload_new(&bias).unwrap();
        let [wx, wy] = [&bx, &by].map(|b| Window::at(b, stride, offset));
        run(device, tokens, width, epsilon, wx, &bg, &bb, wy).unwrap();
        assert_close(&device.name(), &device.read::<f32>(&by, y.len()).unwrap(), &want, 1e-6);
    }
    let params = Params {
        rows: (tokens * heads) as u32,
        width: width as u32,
        x_stride: stride as u32,
        x_offset: offset as u32,
        y_stride: stride as u32,
        y_offset: offset as u32,
        epsilon,
    };
    let mut plain = wide(&y);
    reference(&params, &wide(&x), &wide(&gain), &wide(&bias), &mut plain);
    let narrow: Vec<f32> = plain.iter().map(|v| *v as f32).collect();
    assert_close("reference", &narrow, &want, 1e-6);
}
