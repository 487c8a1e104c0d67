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

/// More tokens than a dimension of a launch has workgroups.
#[test]
fn many_tokens_take_a_second_dimension() {
    let tokens = 65_537;
    let logits: Vec<f32> = (0..2 * tokens).map(|i| if i % 3 == 0 { 1.0 } else { 0.0 }).collect();
    for device in devices() {
        let bl = device.upload_new(&logits).unwrap();
        let best = device.upload_new(&initial_best(tokens)).unwrap();
        run(device, tokens, 2, 0, &bl, &best).unwrap();
        for (token, best) in device.read::<u32>(&best, 2 * tokens).unwrap().chunks(2).enumerate() {
            assert_eq!(best[1], u32::from((2 * token + 1) % 3 == 0), "token {token} on {}", device.name());
        }
    }
}
