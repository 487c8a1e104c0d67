//! Log-sum-exp on every device, and the same bits for every slicing.

use efface::kernels::loss::log_sum_exp::{Params, reference, run};
use efface::kernels::loss::{NO_TARGET, initial_state, nll};
use kernels_tests::{Random, assert_close, devices, variants};

use crate::{slice, slices};

#[test]
fn matches_float64_whatever_the_slices() {
    let mut random = Random::new("loss/log_sum_exp");
    let (tokens, vocabulary) = (random.size(2, 9), random.size(1100, 3000));
    // Far from zero, so that exponentials without the maximum would overflow.
    let logits: Vec<f32> = random.values(tokens * vocabulary).iter().map(|v| 90.0 + 20.0 * v).collect();
    let mut targets: Vec<u32> = (0..tokens).map(|_| random.size(0, vocabulary - 1) as u32).collect();
    targets[0] = NO_TARGET;
    let want: Vec<f64> = logits
        .chunks(vocabulary)
        .zip(&targets)
        .map(|(row, target)| {
            let highest = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = row.iter().map(|l| (f64::from(*l) - f64::from(highest)).exp()).sum();
            let logit = row.get(*target as usize).copied().unwrap_or(0.0);
            f64::from(highest) + sum.ln() - f64::from(logit)
        })
        .collect();
    let losses = |state: &[f32]| -> Vec<f32> { state.chunks(3).map(|s| nll(&[s[0], s[1], s[2]]) as f32).collect() };
    for device in devices() {
        let mut first: Option<Vec<f32>> = None;
        for blocks in [100, 1, 3] {
            let state = device.upload_new(&initial_state(tokens)).unwrap();
            let bt = device.upload_new(&targets).unwrap();
            for columns in slices(vocabulary, blocks) {
                let part = device.upload_new(&slice(&logits, vocabulary, columns.clone())).unwrap();
                run(device, tokens, columns.len(), columns.start, &part, &bt, &state).unwrap();
            }
            let state = device.read::<f32>(&state, 3 * tokens).unwrap();
            assert_close(&device.name(), &losses(&state), &want, 1e-5);
            assert_eq!(first.get_or_insert(state.clone()), &state, "slices of {blocks} blocks on {}", device.name());
        }
    }
    let mut state = initial_state(tokens);
    let params = Params { tokens: tokens as u32, width: vocabulary as u32, first_column: 0 };
    reference(&params, &logits, &targets, &mut state);
    assert_close("reference", &losses(&state), &want, 1e-5);
}

/// With subgroups and without, the same bits.
#[test]
fn all_reductions_give_the_same_bits() {
    let mut random = Random::new("loss/log_sum_exp reductions");
    let (tokens, vocabulary) = (random.size(2, 9), random.size(600, 1500));
    let logits = random.values(tokens * vocabulary);
    let mut first: Option<Vec<f32>> = None;
    for (name, device) in variants("loss/log_sum_exp").into_iter().filter(|(_, device)| !device.is_cpu()) {
        let state = device.upload_new(&initial_state(tokens)).unwrap();
        let (bl, bt) = (device.upload_new(&logits).unwrap(), device.upload_new(&vec![0u32; tokens]).unwrap());
        run(&device, tokens, vocabulary, 0, &bl, &bt, &state).unwrap();
        let got = device.read::<f32>(&state, 3 * tokens).unwrap();
        assert_eq!(*first.get_or_insert_with(|| got.clone()), got, "{name}");
    }
}
