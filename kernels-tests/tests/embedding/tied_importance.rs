//! Importance of a tied table on every device: the head's sums with the embedding's correction are the sums of H + E.

use efface::kernels::embedding::tied_importance::run;
use efface::kernels::embedding::{RowIndex, head_rows};
use efface::kernels::{Accumulate, Window};
use kernels_tests::{Random, assert_close, devices};

use crate::Case;

#[test]
fn matches_float64() {
    let mut random = Random::new("embedding/tied_importance");
    for accumulate in Accumulate::ALL {
        let case = Case::new(&mut random);
        let (tokens, columns) = (case.ids.len(), case.columns);
        let logits_delta = random.values(tokens * case.vocabulary);
        let (activation, delta) = (random.values(tokens * columns), random.values(tokens * columns));
        let fold = |g: f64| match accumulate {
            Accumulate::Square => g * g,
            Accumulate::Magnitude => g.abs(),
            Accumulate::Sum => g,
        };
        let (mut head, mut want) = (vec![0.0; case.vocabulary * columns], vec![0.0; case.vocabulary * columns]);
        for (h, e) in case.head_gradients(&logits_delta, &activation).iter().zip(case.gradients(&delta)) {
            for i in 0..want.len() {
                head[i] += fold(h[i]);
                want[i] += fold(h[i] + e[i]);
            }
        }
        let start: Vec<f32> = head.iter().map(|h| *h as f32).collect();
        for device in devices() {
            let index = RowIndex::new(device, &case.units, &case.ids).unwrap();
            let [bl, ba, bd, importance] =
                [&logits_delta, &activation, &delta, &start].map(|v| device.upload_new(v).unwrap());
            let rows = device.allocate((index.entries() * columns * 4) as u64).unwrap();
            let (left, right) = (Window::all(&bl, case.vocabulary), Window::all(&ba, columns));
            head_rows::run(device, &index, 0, case.vocabulary, left, right, columns, &rows).unwrap();
            let window = Window::all(&bd, columns);
            run(device, accumulate, &index, window, columns, &rows, 0, case.vocabulary, &importance).unwrap();
            let got = device.read::<f32>(&importance, want.len()).unwrap();
            assert_close(&format!("{accumulate:?} on {}", device.name()), &got, &want, 3e-6);
        }
    }
}
