//! Rows by id on every device: all element types, slices, accumulation, windows.

use efface::Element;
use efface::kernels::embedding::lookup::{Params, reference, run};
use efface::kernels::{Matrix, Window};
use kernels_tests::{Random, devices};

use crate::Batch;

#[test]
fn takes_the_rows_of_the_slice_and_leaves_others_alone() {
    let mut random = Random::new("embedding/lookup");
    for element in Element::ALL {
        for accumulate in [false, true] {
            let batch = Batch::new(&mut random);
            let (first, rows) = batch.slice(&mut random);
            // Tokens of rows behind the slice, too: it ends before the table does where it can.
            let rows = if rows > 1 { rows - 1 } else { rows };
            let (tokens, columns) = (batch.ids.len(), random.size(1, 90));
            let stride = columns + 6;
            let bytes = element.encode(&random.values(rows * columns));
            let mut table = vec![0.0; rows * columns];
            element.decode(&bytes, &mut table).unwrap();
            let old = random.values(tokens * stride);
            let mut want = old.clone();
            for (y, id) in want.chunks_mut(stride).zip(&batch.ids) {
                if (first..first + rows).contains(&(*id as usize)) {
                    let row = &table[(*id as usize - first) * columns..][..columns];
                    for (y, value) in y[4..].iter_mut().zip(row) {
                        *y = if accumulate { *y + value } else { *value };
                    }
                }
            }
            for device in devices() {
                let (bi, bt) = (device.upload_new(&batch.ids).unwrap(), device.upload_new(&bytes).unwrap());
                let by = device.upload_new(&old).unwrap();
                let matrix = Matrix { buffer: &bt, element, rows, columns };
                run(device, tokens, &bi, first, matrix, Window::at(&by, stride, 4), accumulate).unwrap();
                assert_eq!(device.read::<f32>(&by, old.len()).unwrap(), want, "{} {element:?}", device.name());
            }
            let p = Params {
                tokens: tokens as u32,
                first_row: first as u32,
                slice_rows: rows as u32,
                columns: columns as u32,
                y_stride: stride as u32,
                y_offset: 4,
                accumulate: u32::from(accumulate),
            };
            let mut plain = old.clone();
            reference(&p, &batch.ids, &table, &mut plain);
            assert_eq!(plain, want, "reference");
        }
    }
}
