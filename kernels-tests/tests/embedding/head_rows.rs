//! The head's gradient in the rows of the unit's own tokens, on every device: all entries, from two slices of the head.

use efface::kernels::Window;
use efface::kernels::embedding::RowIndex;
use efface::kernels::embedding::head_rows::run;
use kernels_tests::{Random, assert_close, devices};

use crate::Case;

#[test]
fn matches_float64() {
    let mut random = Random::new("embedding/head_rows");
    let case = Case::new(&mut random);
    let (tokens, columns) = (case.ids.len(), case.columns);
    let (delta, activation) = (random.values(tokens * case.vocabulary), random.values(tokens * columns));
    let gradients = case.head_gradients(&delta, &activation);
    // Entries are ordered by row, then by unit.
    let mut want = Vec::new();
    for v in 0..case.vocabulary {
        for (unit, gradient) in case.units.windows(2).zip(&gradients) {
            if case.ids[unit[0] as usize..unit[1] as usize].contains(&(v as u32)) {
                want.extend(&gradient[v * columns..(v + 1) * columns]);
            }
        }
    }
    for device in devices() {
        let index = RowIndex::new(device, &case.units, &case.ids).unwrap();
        assert_eq!(index.entries() * columns, want.len());
        let [bd, ba] = [&delta, &activation].map(|v| device.upload_new(v).unwrap());
        let rows = device.allocate(want.len() as u64 * 4).unwrap();
        let cut = case.vocabulary / 2;
        for (first, count) in [(0, cut), (cut, case.vocabulary - cut)] {
            let window = Window::at(&bd, case.vocabulary, first);
            run(device, &index, first, count, window, Window::all(&ba, columns), columns, &rows).unwrap();
        }
        assert_close(&device.name(), &device.read::<f32>(&rows, want.len()).unwrap(), &want, 1e-6);
    }
}
