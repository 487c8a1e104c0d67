//! One unit's embedding gradient on every device: repeated rows, slices, windows.

use efface::kernels::Window;
use efface::kernels::embedding::grads::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices};

use crate::{Batch, dense};

#[test]
fn matches_float64() {
    let mut random = Random::new("embedding/grads");
    for _ in 0..6 {
        let batch = Batch::new(&mut random);
        let (first, rows) = batch.slice(&mut random);
        let columns = random.size(9, 150);
        let stride = columns + 2;
        let delta = random.values(batch.ids.len() * stride);
        let old = random.values(rows * columns);
        let unit = batch.units().nth(1).unwrap();
        let terms = dense(&delta, stride, 1, columns);
        let gradients = (first..first + rows).flat_map(|v| batch.embedding_gradient(unit.clone(), v as u32, &terms));
        let want: Vec<f64> = old.iter().zip(gradients).map(|(old, e)| f64::from(*old) + e).collect();
        for device in devices() {
            let bi = device.upload_new(&batch.ids).unwrap();
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
        reference(&p, &batch.ids, &delta, &mut plain);
        assert_close("reference", &plain, &want, 1e-6);
    }
}
