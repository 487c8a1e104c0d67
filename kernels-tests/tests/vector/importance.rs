//! The importance of vector parameters on every device: all accumulations, windows, several rows for each token, and
//! splits that must not change bits.

use efface::device::Device;
use efface::kernels::vector::importance::{Params, reference, run};
use efface::kernels::{Accumulate, Segments, Window};
use kernels_tests::{Random, assert_close, devices};

fn on(
    device: &Device,
    accumulate: Accumulate,
    offsets: &[u32],
    p: &Params,
    terms: &[f32],
    importance: &[f32],
) -> Vec<f32> {
    let (bo, bt) = (device.upload_new(offsets).unwrap(), device.upload_new(terms).unwrap());
    let bf = device.upload_new(importance).unwrap();
    let segments = Segments::new(&bo, offsets);
    let window = Window::at(&bt, p.terms_stride as usize, p.terms_offset as usize);
    run(device, accumulate, segments, p.rows_per_token as usize, window, p.width as usize, &bf).unwrap();
    device.read(&bf, importance.len()).unwrap()
}

/// The formula in float64, written apart from the kernel.
fn formula(accumulate: Accumulate, offsets: &[u32], p: &Params, terms: &[f32], importance: &[f32]) -> Vec<f64> {
    let [stride, offset, per_token] = [p.terms_stride, p.terms_offset, p.rows_per_token].map(|n| n as usize);
    let rows: Vec<&[f32]> = terms.chunks(stride).collect();
    let element = |(i, f): (usize, &f32)| {
        let gradient = |unit: &[u32]| -> f64 {
            let rows = &rows[unit[0] as usize * per_token..unit[1] as usize * per_token];
            rows.iter().map(|row| f64::from(row[offset + i])).sum()
        };
        let parts = offsets.windows(2).map(|unit| match accumulate {
            Accumulate::Square => gradient(unit).powi(2),
            Accumulate::Magnitude => gradient(unit).abs(),
            Accumulate::Sum => gradient(unit),
        });
        f64::from(*f) + parts.sum::<f64>()
    };
    importance.iter().enumerate().map(element).collect()
}

/// Down to a single element, judged together: alone, a sum that cancels has next to no size to compare its error with.
#[test]
fn narrow_vectors_match_float64() {
    let mut random = Random::new("vector/importance narrow");
    for accumulate in Accumulate::ALL {
        let cases: Vec<_> = (0..60)
            .map(|_| {
                let (tokens, width) = (random.size(7, 60), random.size(1, 8));
                let offsets = random.offsets(7, tokens);
                let [units, rows_per_token, terms_offset] = [7, 1, 1];
                let p =
                    Params { units, rows_per_token, width: width as u32, terms_stride: width as u32 + 1, terms_offset };
                (p, offsets, random.values(tokens * (width + 1)), random.values(width))
            })
            .collect();
        let want: Vec<f64> =
            cases.iter().flat_map(|(p, o, terms, start)| formula(accumulate, o, p, terms, start)).collect();
        for device in devices() {
            let got: Vec<f32> =
                cases.iter().flat_map(|(p, o, terms, start)| on(device, accumulate, o, p, terms, start)).collect();
            assert_close(&format!("{} {accumulate:?}", device.name()), &got, &want, 1e-6);
        }
    }
}

#[test]
fn matches_float64_and_splits_keep_the_bits() {
    let mut random = Random::new("vector/importance");
    for accumulate in Accumulate::ALL {
        for per_token in [1, random.size(2, 4)] {
            let (tokens, width) = (random.size(8, 150), random.size(9, 200));
            let offsets = random.offsets(7, tokens);
            let p = Params {
                units: 7,
                rows_per_token: per_token as u32,
                width: width as u32,
                terms_stride: width as u32 + 3,
                terms_offset: 2,
            };
            let terms = random.values(tokens * per_token * (width + 3));
            let importance = random.values(width);
            let want = formula(accumulate, &offsets, &p, &terms, &importance);
            let cut = random.size(1, 6);
            for device in devices() {
                let got = on(device, accumulate, &offsets, &p, &terms, &importance);
                assert_close(&format!("{} {accumulate:?} {p:?}", device.name()), &got, &want, 1e-6);
                let first = on(device, accumulate, &offsets[..=cut], &p, &terms, &importance);
                assert_eq!(on(device, accumulate, &offsets[cut..], &p, &terms, &first), got, "{}", device.name());
            }
            let mut plain = importance.clone();
            reference(&p, accumulate, &offsets, &terms, &mut plain);
            assert_close("reference", &plain, &want, 1e-6);
        }
    }
}
