//! Sums of a unit's terms on every device: windows, several rows for each token.

use efface::kernels::Window;
use efface::kernels::vector::grads::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices};

#[test]
fn matches_float64() {
    let mut random = Random::new("vector/grads");
    for per_token in [1, random.size(2, 5)] {
        for length in [1, random.size(2, 100)] {
            let (begin, width) = (random.size(0, 9), random.size(9, 200));
            let (stride, end) = (width + 4, begin + length);
            let terms = random.values((end + 2) * per_token * stride);
            let want: Vec<f64> = (0..width)
                .map(|i| (begin * per_token..end * per_token).map(|row| f64::from(terms[row * stride + 3 + i])).sum())
                .collect();
            let old = random.values(width);
            for device in devices() {
                let [bt, bg] = [&terms, &old].map(|v| device.upload_new(v).unwrap());
                run(device, begin..end, per_token, Window::at(&bt, stride, 3), width, &bg).unwrap();
                assert_close(&device.name(), &device.read::<f32>(&bg, width).unwrap(), &want, 1e-6);
            }
            let p = Params {
                begin: (begin * per_token) as u32,
                end: (end * per_token) as u32,
                width: width as u32,
                terms_stride: stride as u32,
                terms_offset: 3,
            };
            let mut plain = old.clone();
            reference(&p, &terms, &mut plain);
            assert_close("reference", &plain, &want, 1e-6);
        }
    }
}
