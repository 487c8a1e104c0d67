//! The likeliest token on every device; of equals the first.

use efface::kernels::loss::argmax::{Params, reference, run};
use efface::kernels::loss::initial_best;
use kernels_tests::{Random, devices};

use crate::{slice, slices};

#[test]
fn finds_the_first_of_the_largest() {
    let mut random = Random::new("loss/argmax");
    let (tokens, vocabulary) = (random.size(2, 20), random.size(1100, 2000));
    // Few different values, so that there are ties.
    let logits: Vec<f32> = (0..tokens * vocabulary).map(|_| random.size(0, 300) as f32 - 400.0).collect();
    let want: Vec<u32> = logits
        .chunks(vocabulary)
        .map(|row| {
            let highest = row.iter().copied().fold(f32::MIN, f32::max);
            row.iter().position(|l| *l == highest).unwrap() as u32
        })
        .collect();
    for device in devices() {
        for blocks in [1, 100] {
            let best = device.upload_new(&initial_best(tokens)).unwrap();
            for columns in slices(vocabulary, blocks) {
                let part = device.upload_new(&slice(&logits, vocabulary, columns.clone())).unwrap();
                run(device, tokens, columns.len(), columns.start, &part, &best).unwrap();
            }
            let best = device.read::<u32>(&best, 2 * tokens).unwrap();
            let columns: Vec<u32> = best.chunks(2).map(|b| b[1]).collect();
            assert_eq!(columns, want, "{}", device.name());
        }
    }
    let (mut scores, mut columns) = (vec![-1e30f64; tokens], vec![u32::MAX; tokens]);
    let params = Params { tokens: tokens as u32, width: vocabulary as u32, first_column: 0 };
    reference(&params, &kernels_tests::wide(&logits), &mut scores, &mut columns);
    assert_eq!(columns, want);
}
