//! Importance of a vector parameter on every device.

use efface::kernels::vector::importance::{Params, reference, run};
use efface::kernels::{Accumulate, Segments, Window};
use kernels_tests::{Random, assert_close, devices, wide};

#[test]
fn matches_float64() {
    let mut random = Random::new("vector/importance");
    for accumulate in Accumulate::ALL {
        for rows_per_token in [1, 3] {
            let (tokens, width) = (random.size(9, 60), random.size(1, 300));
            let count = random.size(1, 9);
            let units = random.offsets(count, tokens);
            let (offset, stride) = (1, width + 4);
            let (terms, start) = (random.values(tokens * rows_per_token * stride), random.values(width));
            let mut want = wide(&start);
            for (i, want) in want.iter_mut().enumerate() {
                for unit in units.windows(2) {
                    let rows = unit[0] as usize * rows_per_token..unit[1] as usize * rows_per_token;
                    let gradient: f64 = rows.map(|row| f64::from(terms[row * stride + offset + i])).sum();
                    *want += match accumulate {
                        Accumulate::Square => gradient.powi(2),
                        Accumulate::Magnitude => gradient.abs(),
                        Accumulate::Sum => gradient,
                    };
                }
            }
            for device in devices() {
                let (bu, bt) = (device.upload_new(&units).unwrap(), device.upload_new(&terms).unwrap());
                let bi = device.upload_new(&start).unwrap();
                let segments = Segments { offsets: &bu, count };
                run(device, accumulate, segments, rows_per_token, Window::at(&bt, stride, offset), width, &bi).unwrap();
                let got = device.read::<f32>(&bi, width).unwrap();
                assert_close(&format!("{accumulate:?} on {}", device.name()), &got, &want, 2e-6);
            }
            let params = Params {
                units: count as u32,
                rows_per_token: rows_per_token as u32,
                width: width as u32,
                terms_stride: stride as u32,
                terms_offset: offset as u32,
            };
            let mut plain = start.clone();
            reference(&params, accumulate, &units, &terms, &mut plain);
            assert_close("reference", &plain, &want, 2e-6);
        }
    }
}
