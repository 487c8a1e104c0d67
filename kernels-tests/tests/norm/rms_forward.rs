//! RMSNorm on every device: whole rows and heads, windows, both workgroup sizes.

use efface::kernels::Window;
use efface::kernels::norm::rms_forward::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, variants, wide};

use crate::{row_of, widths};

#[test]
fn matches_float64() {
    let mut random = Random::new("norm/rms_forward");
    for width in widths(&mut random) {
        for heads in [1, random.size(2, 5)] {
            let (tokens, epsilon) = (random.size(1, 20), 1e-3);
            let (x_stride, y_stride) = (heads * width + 3, heads * width + 4);
            let x = random.values(tokens * x_stride);
            let gain = random.values(width);
            let y = random.values(tokens * y_stride);
            let mut want = wide(&y);
            for row in 0..tokens * heads {
                let x_row = row_of(&wide(&x), x_stride, 2, heads, width, row);
                let rms = (x_row.iter().map(|v| v.powi(2)).sum::<f64>() / width as f64 + f64::from(epsilon)).sqrt();
                for i in 0..width {
                    want[row / heads * y_stride + 1 + row % heads * width + i] = f64::from(gain[i]) * x_row[i] / rms;
                }
            }
            for device in devices() {
                let [bx, bg, by] = [&x, &gain, &y].map(|v| device.upload_new(v).unwrap());
                let (wx, wy) = (Window::at(&bx, x_stride, 2), Window::at(&by, y_stride, 1));
                run(device, tokens, heads, width, epsilon, wx, &bg, wy).unwrap();
                let got = device.read::<f32>(&by, y.len()).unwrap();
                assert_close(&format!("{} {tokens}x{heads}x{width}", device.name()), &got, &want, 1e-6);
            }
            let p = Params {
                rows: (tokens * heads) as u32,
                heads: heads as u32,
                width: width as u32,
                epsilon,
                x_stride: x_stride as u32,
                x_offset: 2,
                y_stride: y_stride as u32,
                y_offset: 1,
            };
            let mut plain = y.clone();
            reference(&p, &x, &gain, &mut plain);
            assert_close("reference", &plain, &want, 1e-6);
        }
    }
}

/// More rows than one dimension of a grid holds.
#[test]
fn many_rows() {
    let mut random = Random::new("norm/rms_forward many rows");
    let (tokens, heads, width) = (13_200, 5, 2);
    let x = random.values(tokens * heads * width);
    let want: Vec<f64> = wide(&x)
        .chunks(2)
        .flat_map(|v| {
            let rms = ((v[0] * v[0] + v[1] * v[1]) / 2.0 + f64::from(1e-5f32)).sqrt();
            [v[0] / rms, v[1] / rms]
        })
        .collect();
    for device in devices() {
        let (bx, bg) = (device.upload_new(&x).unwrap(), device.upload_new(&[1.0f32; 2]).unwrap());
        let by = device.allocate((x.len() * 4) as u64).unwrap();
        let columns = heads * width;
        run(device, tokens, heads, width, 1e-5, Window::all(&bx, columns), &bg, Window::all(&by, columns)).unwrap();
        assert_close(&device.name(), &device.read::<f32>(&by, x.len()).unwrap(), &want, 1e-6);
    }
}

/// With subgroups and without, the same bits.
#[test]
fn all_reductions_give_the_same_bits() {
    let mut random = Random::new("norm/rms_forward reductions");
    for width in widths(&mut random) {
        let tokens = random.size(1, 9);
        let (x, gain) = (random.values(tokens * width), random.values(width));
        let mut first: Option<Vec<f32>> = None;
        for (name, device) in variants("norm/rms_forward").into_iter().filter(|(_, device)| !device.is_cpu()) {
            let (bx, bg) = (device.upload_new(&x).unwrap(), device.upload_new(&gain).unwrap());
            let by = device.allocate((tokens * width * 4) as u64).unwrap();
            run(&device, tokens, 1, width, 1e-5, Window::all(&bx, width), &bg, Window::all(&by, width)).unwrap();
            let got = device.read::<f32>(&by, tokens * width).unwrap();
            assert_eq!(*first.get_or_insert_with(|| got.clone()), got, "{name}, {width}");
        }
    }
}
