//! The importance of an untied table on every device: all accumulations, slices, windows, and splits over batches that
//! must not change bits.

use efface::kernels::embedding::RowIndex;
use efface::kernels::embedding::importance::{Params, reference, run};
use efface::kernels::{Accumulate, Window};
use kernels_tests::{Random, assert_close, devices};

use crate::{Batch, accumulated, dense, numbers};

/// Down to a single column, judged together: alone, a sum that cancels has next to no size to compare its error with.
#[test]
fn narrow_tables_match_float64() {
    let mut random = Random::new("embedding/importance narrow");
    let (mut want, mut got) = (Vec::new(), vec![Vec::new(); devices().len()]);
    for _ in 0..30 {
        let batch = Batch::new(&mut random);
        let (first, rows) = batch.slice(&mut random);
        let columns = random.size(1, 8);
        let delta = random.values(batch.ids.len() * columns);
        let terms = dense(&delta, columns, 0, columns);
        for row in first..first + rows {
            let gradients: Vec<Vec<f64>> =
                batch.units().map(|unit| batch.embedding_gradient(unit, row as u32, &terms)).collect();
            want.extend((0..columns).map(|c| gradients.iter().map(|g| g[c] * g[c]).sum::<f64>()));
        }
        for (got, device) in got.iter_mut().zip(devices()) {
            let bd = device.upload_new(&delta).unwrap();
            let bf = device.allocate((rows * columns * 4) as u64).unwrap();
            let index = RowIndex::new(device, &batch.offsets, &batch.ids).unwrap();
            run(device, Accumulate::Square, &index, Window::at(&bd, columns, 0), columns, first, rows, &bf).unwrap();
            got.extend(device.read::<f32>(&bf, rows * columns).unwrap());
        }
    }
    for (got, device) in got.iter().zip(devices()) {
        assert_close(&device.name(), got, &want, 1e-6);
    }
}

#[test]
fn matches_float64() {
    let mut random = Random::new("embedding/importance");
    for accumulate in Accumulate::ALL.into_iter().cycle().take(6) {
        let batch = Batch::new(&mut random);
        let (first, rows) = batch.slice(&mut random);
        let columns = random.size(9, 150);
        let stride = columns + 5;
        let delta = random.values(batch.ids.len() * stride);
        let old = random.values(rows * columns);
        let terms = dense(&delta, stride, 3, columns);
        let mut want: Vec<f64> = old.iter().map(|f| f64::from(*f)).collect();
        for (row, f) in want.chunks_mut(columns).enumerate() {
            for unit in batch.units() {
                let e = batch.embedding_gradient(unit, (first + row) as u32, &terms);
                f.iter_mut().zip(e).for_each(|(f, e)| *f += accumulated(accumulate, e));
            }
        }
        let cut = random.size(1, batch.offsets.len() - 2);
        for device in devices() {
            let bd = device.upload_new(&delta).unwrap();
            let over = |parts: &[&[u32]]| {
                let bf = device.upload_new(&old).unwrap();
                for offsets in parts {
                    let index = RowIndex::new(device, offsets, &batch.ids).unwrap();
                    run(device, accumulate, &index, Window::at(&bd, stride, 3), columns, first, rows, &bf).unwrap();
                }
                device.read::<f32>(&bf, old.len()).unwrap()
            };
            let got = over(&[&batch.offsets]);
            assert_close(&format!("{} {accumulate:?}", device.name()), &got, &want, 1e-6);
            assert_eq!(over(&[&batch.offsets[..=cut], &batch.offsets[cut..]]), got, "{}", device.name());
        }
        let device = &devices()[0];
        let index = RowIndex::new(device, &batch.offsets, &batch.ids).unwrap();
        let [touched, row_entries, entry_tokens, tokens] =
            [&index.rows, &index.row_entries, &index.entry_tokens, &index.tokens].map(|b| numbers(device, b));
        let p = Params {
            distinct: touched.len() as u32,
            columns: columns as u32,
            first_row: first as u32,
            slice_rows: rows as u32,
            delta_stride: stride as u32,
            delta_offset: 3,
        };
        let mut plain = old.clone();
        reference(&p, accumulate, &touched, &row_entries, &entry_tokens, &tokens, &delta, &mut plain);
        assert_close("reference", &plain, &want, 1e-6);
    }
}
