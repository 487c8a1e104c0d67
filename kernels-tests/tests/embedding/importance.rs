//! The importance of an untied table on every device: all accumulations, slices, windows, and splits over batches that
//! must not change bits.

use efface::kernels::embedding::RowIndex;
use efface::kernels::embedding::importance::{Params, reference, run};
use efface::kernels::{Accumulate, Window};
use kernels_tests::{Random, assert_close, devices};

use crate::{Batch, accumulated, dense, numbers};

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
