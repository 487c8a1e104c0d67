//! One unit's embedding gradient on every device: repeated rows, slices, windows.

use efface::kernels::Window;
use efface::kernels::embedding::grads::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices};

use crate::Case;

#[test]
fn matches_float64() {
    let mut random = Random::new("embedding/grads");
    for _ in 0..6 {
        let case = Case::new(&mut random);
        let columns = case.columns;
        let first = random.size(0, case.vocabulary - 1);
        let rows = random.size(1, case.vocabulary - first);
        let number = random.size(0, case.units.len() - 2);
        let unit = case.units[number] as usize..case.units[number + 1] as usize;
        let dense = random.values(case.ids.len() * columns);
        let stride = columns + 2;
        let mut delta = random.values(case.ids.len() * stride);
        for (row, values) in delta.chunks_mut(stride).zip(dense.chunks(columns)) {
            row[1..=columns].copy_from_slice(values);
        }
        let old = random.values(rows * columns);
        let gradient = &case.gradients(&dense)[number][first * columns..];
        let want: Vec<f64> = old.iter().zip(gradient).map(|(old, e)| f64::from(*old) + e).collect();
        for device in devices() {
            let bi = device.upload_new(&case.ids).unwrap();
            let [bd, bg] = [&delta, &old].map(|v| device.upload_new(v).unwrap());
            run(device, unit.clone(), &bi, Window::at(&bd, stride, 1), columns, first, rows, &bg).unwrap();
            assert_close(&device.name(), &device.read::<f32>(&bg, old.len()).unwrap(), &want, 1e-6);
        }
        let p = Params {
            begin: unit.start as u32,
            end: unit.end as u32,
            columns: columns as u32,
            first_row: first as u32,
            slice_rows: rows as u32,
            delta_stride: stride as u32,
            delta_offset: 1,
        };
        let mut plain = old.clone();
        reference(&p, &case.ids, &delta, &mut plain);
        assert_close("reference", &plain, &want, 1e-6);
    }
}
