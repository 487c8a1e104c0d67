//! Importance of a table on every device, whole and in slices of rows.

use efface::kernels::embedding::RowIndex;
use efface::kernels::embedding::importance::run;
use efface::kernels::{Accumulate, Window};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::Case;

#[test]
fn matches_float64() {
    let mut random = Random::new("embedding/importance");
    for accumulate in Accumulate::ALL {
        let case = Case::new(&mut random);
        let delta = random.values(case.ids.len() * case.columns);
        let start = random.values(case.vocabulary * case.columns);
        let mut want = wide(&start);
        for gradient in case.gradients(&delta) {
            for (want, g) in want.iter_mut().zip(gradient) {
                *want += match accumulate {
                    Accumulate::Square => g * g,
                    Accumulate::Magnitude => g.abs(),
                    Accumulate::Sum => g,
                };
            }
        }
        for device in devices() {
            let index = RowIndex::new(device, &case.units, &case.ids).unwrap();
            let bd = device.upload_new(&delta).unwrap();
            let mut got = Vec::new();
            let cut = case.vocabulary / 2;
            for (first, rows) in [(0, cut), (cut, case.vocabulary - cut)] {
                let part = &start[first * case.columns..(first + rows) * case.columns];
                let importance = device.upload_new(part).unwrap();
                let window = Window::all(&bd, case.columns);
                run(device, accumulate, &index, window, case.columns, first, rows, &importance).unwrap();
                got.extend(device.read::<f32>(&importance, part.len()).unwrap());
            }
            assert_close(&format!("{accumulate:?} on {}", device.name()), &got, &want, 1e-6);
        }
    }
}
