//! The importance of a tied table on every device: head first, then rows, then correction, against the accumulated sum of
//! both gradients.

use efface::device::Device;
use efface::kernels::embedding::tied_importance::{Params, reference};
use efface::kernels::embedding::{RowIndex, head_rows, tied_importance};
use efface::kernels::linear::weight_importance;
use efface::kernels::{Accumulate, Segments, Window};
use kernels_tests::{Random, assert_close, devices};

use crate::{Batch, accumulated, dense, numbers};

/// The three kernels that a tied table takes, over the given slices of it. Also yields the gathered rows of the head.
fn tied(
    device: &Device,
    accumulate: Accumulate,
    batch: &Batch,
    columns: usize,
    [logits_delta, activation, delta]: [&[f32]; 3],
    slices: &[(usize, usize)],
) -> (Vec<f32>, Vec<f32>) {
    let index = RowIndex::new(device, &batch.offsets, &batch.ids).unwrap();
    let [ba, bd] = [activation, delta].map(|v| device.upload_new(v).unwrap());
    let bl = device.upload_new(logits_delta).unwrap();
    let bo = device.upload_new(&batch.offsets).unwrap();
    let bh = device.allocate((index.entries() * columns * 4) as u64).unwrap();
    let segments = Segments::new(&bo, &batch.offsets);
    let (activation, delta) = (Window::all(&ba, columns), Window::all(&bd, columns));
    let parts: Vec<_> = slices
        .iter()
        .map(|&(first, rows)| {
            let logits = Window::at(&bl, batch.vocabulary, first);
            let bf = device.allocate((rows * columns * 4) as u64).unwrap();
            weight_importance::run(device, accumulate, segments, logits, activation, rows, columns, &bf).unwrap();
            head_rows::run(device, &index, first, rows, logits, activation, columns, &bh).unwrap();
            (first, rows, bf)
        })
        .collect();
    let mut importance = Vec::new();
    for (first, rows, bf) in parts {
        tied_importance::run(device, accumulate, &index, delta, columns, &bh, first, rows, &bf).unwrap();
        importance.extend(device.read::<f32>(&bf, rows * columns).unwrap());
    }
    (importance, device.read::<f32>(&bh, index.entries() * columns).unwrap())
}

#[test]
fn matches_float64() {
    let mut random = Random::new("embedding/tied_importance");
    for accumulate in Accumulate::ALL.into_iter().cycle().take(6) {
        let batch = Batch::new(&mut random);
        let (tokens, vocabulary, columns) = (batch.ids.len(), batch.vocabulary, random.size(9, 150));
        let logits_delta = random.values(tokens * vocabulary);
        let [activation, delta] = [(); 2].map(|()| random.values(tokens * columns));
        let operands = [&logits_delta[..], &activation, &delta];

        let (l, a) = (dense(&logits_delta, vocabulary, 0, vocabulary), dense(&activation, columns, 0, columns));
        let d = dense(&delta, columns, 0, columns);
        let mut want = vec![0.0; vocabulary * columns];
        for unit in batch.units() {
            for (row, f) in want.chunks_mut(columns).enumerate() {
                let e = batch.embedding_gradient(unit.clone(), row as u32, &d);
                for (c, f) in f.iter_mut().enumerate() {
                    let h: f64 = unit.clone().map(|t| l[t][row] * a[t][c]).sum();
                    *f += accumulated(accumulate, h + e[c]);
                }
            }
        }

        let cut = random.size(1, vocabulary - 1);
        for device in devices() {
            let (whole, _) = tied(device, accumulate, &batch, columns, operands, &[(0, vocabulary)]);
            let (cut, _) = tied(device, accumulate, &batch, columns, operands, &[(0, cut), (cut, vocabulary - cut)]);
            assert_close(&format!("{} {accumulate:?}", device.name()), &whole, &want, 1e-6);
            assert_close(&format!("{} {accumulate:?} in slices", device.name()), &cut, &want, 1e-6);
        }
        check_reference(accumulate, &batch, columns, operands, &want);
    }
}

fn check_reference(accumulate: Accumulate, batch: &Batch, columns: usize, operands: [&[f32]; 3], want: &[f64]) {
    let device = &devices()[0];
    let (_, head) = tied(device, accumulate, batch, columns, operands, &[(0, batch.vocabulary)]);
    let index = RowIndex::new(device, &batch.offsets, &batch.ids).unwrap();
    let [touched, row_entries, entry_tokens, tokens] =
        [&index.rows, &index.row_entries, &index.entry_tokens, &index.tokens].map(|b| numbers(device, b));
    let [logits_delta, activation, delta] = operands;
    let width = batch.vocabulary as u32;
    let head_params = weight_importance::Params {
        units: batch.offsets.len() as u32 - 1,
        rows: width,
        columns: columns as u32,
        left_stride: width,
        left_offset: 0,
        right_stride: columns as u32,
        right_offset: 0,
    };
    let mut plain = vec![0.0; batch.vocabulary * columns];
    weight_importance::reference(&head_params, accumulate, &batch.offsets, logits_delta, activation, &mut plain);
    let p = Params {
        distinct: touched.len() as u32,
        columns: columns as u32,
        first_row: 0,
        slice_rows: width,
        delta_stride: columns as u32,
        delta_offset: 0,
    };
    reference(&p, accumulate, &touched, &row_entries, &entry_tokens, &tokens, delta, &head, &mut plain);
    assert_close("reference", &plain, want, 1e-6);
}
