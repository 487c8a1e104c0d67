//! Moments of the log-probabilities on every device, and the same bits for every slicing.

use efface::kernels::loss::log_moments::{Params, STATE, reference, run, spread};
use efface::kernels::loss::{NO_TARGET, initial_moments, nll};
use kernels_tests::{Random, assert_close, devices, variants};

use crate::{slice, slices};

/// For each token the target's loss, and mean and standard deviation of the log-probabilities, by their definition.
fn by_definition(logits: &[f32], vocabulary: usize, targets: &[u32]) -> Vec<f64> {
    let one = |(row, target): (&[f32], &u32)| {
        let highest = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|l| (f64::from(*l) - f64::from(highest)).exp()).sum();
        let normaliser = f64::from(highest) + sum.ln();
        let logs: Vec<f64> = row.iter().map(|l| f64::from(*l) - normaliser).collect();
        let mean: f64 = logs.iter().map(|log| log.exp() * log).sum();
        let variance: f64 = logs.iter().map(|log| log.exp() * (log - mean).powi(2)).sum();
        let logit = row.get(*target as usize).copied().unwrap_or(0.0);
        [normaliser - f64::from(logit), mean, variance.sqrt()]
    };
    logits.chunks(vocabulary).zip(targets).flat_map(one).collect()
}

fn figures(state: &[f32]) -> Vec<f32> {
    let one = |state: &[f32; STATE]| {
        let [mean, deviation] = spread(state);
        [nll(&[state[0], state[1], state[2]]) as f32, mean as f32, deviation as f32]
    };
    state.as_chunks::<STATE>().0.iter().flat_map(one).collect()
}

#[test]
fn matches_float64_whatever_the_slices() {
    let mut random = Random::new("loss/log_moments");
    let (tokens, vocabulary) = (random.size(3, 9), random.size(1100, 3000));
    // Far from zero, rising, so that the maximum moves from block to block; some rows flat, some sure of one column.
    let mut logits: Vec<f32> = random.values(tokens * vocabulary).iter().map(|v| 90.0 + 8.0 * v).collect();
    for (number, row) in logits.chunks_mut(vocabulary).enumerate() {
        match number % 3 {
            1 => row.iter_mut().enumerate().for_each(|(column, logit)| *logit = 0.1 * *logit + 0.01 * column as f32),
            2 => row[vocabulary / 2 + number] += 30.0,
            _ => {}
        }
    }
    let mut targets: Vec<u32> = (0..tokens).map(|_| random.size(0, vocabulary - 1) as u32).collect();
    targets[0] = NO_TARGET;
    let want = by_definition(&logits, vocabulary, &targets);
    for device in devices() {
        let mut first: Option<Vec<f32>> = None;
        for blocks in [100, 1, 3] {
            let state = device.upload_new(&initial_moments(tokens)).unwrap();
            let bt = device.upload_new(&targets).unwrap();
            for columns in slices(vocabulary, blocks) {
                let part = device.upload_new(&slice(&logits, vocabulary, columns.clone())).unwrap();
                run(device, tokens, columns.len(), columns.start, &part, &bt, &state).unwrap();
            }
            let state = device.read::<f32>(&state, STATE * tokens).unwrap();
            assert_close(&device.name(), &figures(&state), &want, 2e-5);
            assert_eq!(first.get_or_insert(state.clone()), &state, "slices of {blocks} blocks on {}", device.name());
        }
    }
    let mut state = initial_moments(tokens);
    let params = Params { tokens: tokens as u32, width: vocabulary as u32, first_column: 0 };
    reference(&params, &logits, &targets, &mut state);
    assert_close("reference", &figures(&state), &want, 2e-5);
}

/// With subgroups and without, the same bits.
#[test]
fn all_reductions_give_the_same_bits() {
    let mut random = Random::new("loss/log_moments reductions");
    let (tokens, vocabulary) = (random.size(2, 9), random.size(600, 1500));
    let logits = random.values(tokens * vocabulary);
    let mut first: Option<Vec<f32>> = None;
    for (name, device) in variants("loss/log_moments").into_iter().filter(|(_, device)| !device.is_cpu()) {
        let state = device.upload_new(&initial_moments(tokens)).unwrap();
        let (bl, bt) = (device.upload_new(&logits).unwrap(), device.upload_new(&vec![0u32; tokens]).unwrap());
        run(&device, tokens, vocabulary, 0, &bl, &bt, &state).unwrap();
        let got = device.read::<f32>(&state, STATE * tokens).unwrap();
        assert_eq!(*first.get_or_insert_with(|| got.clone()), got, "{name}");
    }
}
