//! Gradient of RMSNorm on every device, against the whole Jacobian of each row.

use efface::kernels::Window;
use efface::kernels::norm::rms_backward::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::{row_of, widths};

#[test]
fn matches_float64() {
    let mut random = Random::new("norm/rms_backward");
    for width in widths(&mut random) {
        for (heads, accumulate) in [(1, true), (random.size(2, 5), false)] {
            let tokens = random.size(1, 9);
            let strides = [3, 4, 5].map(|more| heads * width + more);
            let p = Params {
                rows: (tokens * heads) as u32,
                heads: heads as u32,
                width: width as u32,
                epsilon: 1e-3,
                x_stride: strides[0] as u32,
                x_offset: 2,
                dy_stride: strides[1] as u32,
                dy_offset: 1,
                dx_stride: strides[2] as u32,
                dx_offset: 5,
                accumulate: u32::from(accumulate),
            };
            let [x, dy, dx] = strides.map(|stride| random.values(tokens * stride));
            let gain = random.values(width);
            let (want, want_terms) = formula(&p, &wide(&x), &wide(&gain), &wide(&dy), &wide(&dx));
            for device in devices() {
                let [bx, bg, bdy, bdx] = [&x, &gain, &dy, &dx].map(|v| device.upload_new(v).unwrap());
                let terms = device.allocate((want_terms.len() * 4) as u64).unwrap();
                let windows = [Window::at(&bx, strides[0], 2), Window::at(&bdy, strides[1], 1)];
                let out = Window::at(&bdx, strides[2], 5);
                run(device, tokens, heads, width, 1e-3, windows[0], &bg, windows[1], out, accumulate, &terms).unwrap();
                let what = format!("{} {tokens}x{heads}x{width}", device.name());
                assert_close(&what, &device.read::<f32>(&bdx, dx.len()).unwrap(), &want, 1e-6);
                let got = device.read::<f32>(&terms, want_terms.len()).unwrap();
                assert_close(&format!("{what} gain"), &got, &want_terms, 1e-6);
            }
            let (mut plain, mut plain_terms) = (dx.clone(), vec![0.0; want_terms.len()]);
            reference(&p, &x, &gain, &dy, &mut plain, &mut plain_terms);
            assert_close("reference", &plain, &want, 1e-6);
            assert_close("reference gain", &plain_terms, &want_terms, 1e-6);
        }
    }
}

/// dx_j = Σ_i dy_i gain_i ∂n_i/∂x_j with ∂n_i/∂x_j = (δ_ij - x_i x_j / (width rms²)) / rms.
fn formula(p: &Params, x: &[f64], gain: &[f64], dy: &[f64], dx: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let [heads, width, stride] = [p.heads, p.width, p.dx_stride].map(|n| n as usize);
    let (mut want, mut terms) = (dx.to_vec(), Vec::new());
    for row in 0..p.rows as usize {
        let x = row_of(x, p.x_stride as usize, p.x_offset as usize, heads, width, row);
        let dy = row_of(dy, p.dy_stride as usize, p.dy_offset as usize, heads, width, row);
        let rms = (x.iter().map(|v| v * v).sum::<f64>() / width as f64 + f64::from(p.epsilon)).sqrt();
        for j in 0..width {
            let jacobian = |i: usize| (f64::from(u8::from(i == j)) - x[i] * x[j] / (width as f64 * rms * rms)) / rms;
            let gradient: f64 = (0..width).map(|i| dy[i] * gain[i] * jacobian(i)).sum();
            let place = row / heads * stride + p.dx_offset as usize + row % heads * width + j;
            want[place] = gradient + if p.accumulate == 1 { want[place] } else { 0.0 };
            terms.push(dy[j] * x[j] / rms);
        }
    }
    (want, terms)
}
