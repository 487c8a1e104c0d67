//! LayerNorm on every device: windows, both workgroup sizes, and rows far from zero.

use efface::kernels::Window;
use efface::kernels::norm::layer_forward::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::{row_of, widths};

#[test]
fn matches_float64() {
    let mut random = Random::new("norm/layer_forward");
    for width in widths(&mut random) {
        check(&mut random, width, 0.0, 1e-6);
    }
}

/// What may be lost is the rounding of the mean and of the partial sums that it is made of: a few 100 * 2^-24 of a deviation
/// of about one half. A variance found as mean(x²) - mean(x)² would lose a hundred times as much.
#[test]
fn a_large_mean_does_not_cancel() {
    let mut random = Random::new("norm/layer_forward mean");
    let width = random.size(100, 700);
    check(&mut random, width, 100.0, 5e-5);
}

fn check(random: &mut Random, width: usize, mean: f32, tolerance: f64) {
    let (tokens, epsilon) = (random.size(1, 20), 1e-3);
    let (x_stride, y_stride) = (width + 3, width + 4);
    let x: Vec<f32> = random.values(tokens * x_stride).iter().map(|v| v + mean).collect();
    let [gain, bias] = [(); 2].map(|()| random.values(width));
    let y = random.values(tokens * y_stride);
    let mut want = wide(&y);
    for token in 0..tokens {
        let x_row = row_of(&wide(&x), x_stride, 2, 1, width, token);
        let mean = x_row.iter().sum::<f64>() / width as f64;
        let variance = x_row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
        for i in 0..width {
            let normal = (x_row[i] - mean) / (variance + f64::from(epsilon)).sqrt();
            want[token * y_stride + 1 + i] = f64::from(gain[i]) * normal + f64::from(bias[i]);
        }
    }
    for device in devices() {
        let [bx, bg, bb, by] = [&x, &gain, &bias, &y].map(|v| device.upload_new(v).unwrap());
        let (wx, wy) = (Window::at(&bx, x_stride, 2), Window::at(&by, y_stride, 1));
        run(device, tokens, width, epsilon, wx, &bg, &bb, wy).unwrap();
        let got = device.read::<f32>(&by, y.len()).unwrap();
        assert_close(&format!("{} {tokens}x{width}", device.name()), &got, &want, tolerance);
    }
    let p = Params {
        tokens: tokens as u32,
        width: width as u32,
        epsilon,
        x_stride: x_stride as u32,
        x_offset: 2,
        y_stride: y_stride as u32,
        y_offset: 1,
    };
    // In float64: summed one after the other in float32, a row far from zero loses more than the kernels do.
    let mut plain = wide(&y);
    reference(&p, &wide(&x), &wide(&gain), &wide(&bias), &mut plain);
    let rounded: Vec<f32> = plain.iter().map(|v| *v as f32).collect();
    assert_close("reference", &rounded, &want, 1e-7);
}
