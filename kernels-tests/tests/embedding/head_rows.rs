//! The head's gradient in the rows of each unit's tokens, on every device: slices one after the other, windows.

use efface::kernels::Window;
use efface::kernels::embedding::RowIndex;
use efface::kernels::embedding::head_rows::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices};

use crate::{Batch, dense, numbers};

#[test]
fn matches_float64() {
    let mut random = Random::new("embedding/head_rows");
    for _ in 0..6 {
        let batch = Batch::new(&mut random);
        let (first, rows) = batch.slice(&mut random);
        let columns = random.size(9, 150);
        let (delta_stride, activation_stride) = (rows + 3, columns + 4);
        let delta = random.values(batch.ids.len() * delta_stride);
        let activation = random.values(batch.ids.len() * activation_stride);
        let (d, a) = (dense(&delta, delta_stride, 2, rows), dense(&activation, activation_stride, 1, columns));
        let entries = batch.entries();
        let old = random.values(entries.len() * columns);
        let mut want: Vec<f64> = old.iter().map(|h| f64::from(*h)).collect();
        for (h, ((row, _), unit)) in want.chunks_mut(columns).zip(&entries) {
            if let Some(row) = (*row as usize).checked_sub(first) {
                for (c, h) in h.iter_mut().enumerate() {
                    *h = unit.clone().map(|t| d[t][row] * a[t][c]).sum();
                }
            }
        }
        for device in devices() {
            let [bd, ba, bh] = [&delta, &activation, &old].map(|v| device.upload_new(v).unwrap());
            let index = RowIndex::new(device, &batch.offsets, &batch.ids).unwrap();
            let (wd, wa) = (Window::at(&bd, delta_stride, 2), Window::at(&ba, activation_stride, 1));
            run(device, &index, first, rows, wd, wa, columns, &bh).unwrap();
            assert_close(&device.name(), &device.read::<f32>(&bh, old.len()).unwrap(), &want, 1e-6);
        }
        let device = &devices()[0];
        let index = RowIndex::new(device, &batch.offsets, &batch.ids).unwrap();
        let [entry_row, starts, ends] =
            [&index.entry_row, &index.entry_segment_start, &index.entry_segment_end].map(|b| numbers(device, b));
        let p = Params {
            entries: entries.len() as u32,
            columns: columns as u32,
            first_row: first as u32,
            slice_rows: rows as u32,
            delta_stride: delta_stride as u32,
            delta_offset: 2,
            activation_stride: activation_stride as u32,
            activation_offset: 1,
        };
        let mut plain = old.clone();
        reference(&p, &entry_row, &starts, &ends, &delta, &activation, &mut plain);
        assert_close("reference", &plain, &want, 1e-6);
    }
}
