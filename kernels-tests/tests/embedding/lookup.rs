//! Rows of a table on every device: all element types, slices, and adding to what is there.

use efface::Element;
use efface::kernels::embedding::lookup::{Params, reference, run};
use efface::kernels::{Matrix, Window};
use kernels_tests::{Random, assert_close, devices, wide};

#[test]
fn rows_of_this_slice_and_no_others() {
    let mut random = Random::new("embedding/lookup");
    for element in Element::ALL {
        for accumulate in [false, true] {
            let (tokens, vocabulary, columns) = (random.size(1, 50), random.size(4, 60), random.size(1, 90));
            let ids: Vec<u32> = (0..tokens).map(|_| random.size(0, vocabulary - 1) as u32).collect();
            let (first, rows) = (vocabulary / 4, vocabulary / 2);
            let bytes = element.encode(&random.values(rows * columns));
            let mut table = vec![0.0; rows * columns];
            element.decode(&bytes, &mut table).unwrap();
            let (offset, stride) = (1, columns + 2);
            let y = random.values(tokens * stride);
            let mut want = wide(&y);
            for (t, id) in ids.iter().enumerate().filter(|(_, id)| (first..first + rows).contains(&(**id as usize))) {
                for i in 0..columns {
                    let value = f64::from(table[(*id as usize - first) * columns + i]);
                    let place = &mut want[t * stride + offset + i];
                    *place = if accumulate { *place + value } else { value };
                }
            }
            for device in devices() {
                let (bi, bt) = (device.upload_new(&ids).unwrap(), device.upload_new(&bytes).unwrap());
                let by = device.upload_new(&y).unwrap();
                let matrix = Matrix { buffer: &bt, element, rows, columns };
                run(device, tokens, &bi, first, matrix, Window::at(&by, stride, offset), accumulate).unwrap();
                assert_close(&device.name(), &device.read::<f32>(&by, y.len()).unwrap(), &want, 1e-7);
            }
            let params = Params {
                tokens: tokens as u32,
                first_row: first as u32,
                rows: rows as u32,
                columns: columns as u32,
                stride: stride as u32,
                offset: offset as u32,
                accumulate: u32::from(accumulate),
            };
            let mut plain = y.clone();
            reference(&params, &ids, &table, &mut plain);
            assert_close("reference", &plain, &want, 1e-7);
        }
    }
}
