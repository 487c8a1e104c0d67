//! Drawn labels on every device: their frequencies, and that a draw depends on its own place alone.

use efface::kernels::loss::initial_best;
use efface::kernels::loss::sample_labels::{Params, philox, reference, run};
use kernels_tests::{Random, devices};

#[test]
fn frequencies_are_those_of_the_softmax() {
    [1.0, 0.5, 2.5].into_iter().for_each(frequencies);
}

fn frequencies(temperature: f32) {
    let mut random = Random::new("loss/sample_labels");
    let (tokens, vocabulary, seed) = (20_000, 7, random.bits());
    let row: Vec<f32> = random.values(vocabulary).iter().map(|v| 1.5 * v).collect();
    let logits = row.repeat(tokens);
    let keys: Vec<u32> = (0..tokens as u32).flat_map(|t| [t / 100, t % 100]).collect();
    let weight = |logit: f32| (f64::from(logit) / f64::from(temperature)).exp();
    let sum: f64 = row.iter().map(|l| weight(*l)).sum();
    let mut plain = None;
    for device in devices() {
        let [bk, best] = [&keys, &initial_best(tokens)].map(|v| device.upload_new(v).unwrap());
        let bl = device.upload_new(&logits).unwrap();
        run(device, tokens, vocabulary, 0, seed, temperature, &bk, &bl, &best).unwrap();
        let drawn: Vec<u32> = device.read::<u32>(&best, 2 * tokens).unwrap().chunks(2).map(|b| b[1]).collect();
        // Chi-square with six degrees of freedom: above 35 once in 200,000 runs.
        let statistic: f64 = (0..vocabulary)
            .map(|v| {
                let expected = tokens as f64 * weight(row[v]) / sum;
                let seen = drawn.iter().filter(|d| **d == v as u32).count() as f64;
                (seen - expected).powi(2) / expected
            })
            .sum();
        assert!(statistic < 35.0, "{} at {temperature}: chi-square {statistic}", device.name());
        // The logarithm's last bit may differ between devices, and with it a draw between two all but equal scores.
        let others: &Vec<u32> = plain.get_or_insert_with(|| drawn.clone());
        let differing = others.iter().zip(&drawn).filter(|(a, b)| a != b).count();
        assert!(differing < tokens / 1000, "{differing} draws differ on {}", device.name());
    }
    let (mut scores, mut columns) = (vec![-1e30f64; tokens], vec![u32::MAX; tokens]);
    let (seed_low, seed_high) = (seed as u32, (seed >> 32) as u32);
    let params =
        Params { tokens: tokens as u32, width: vocabulary as u32, first_column: 0, seed_low, seed_high, temperature };
    reference(&params, &keys, &kernels_tests::wide(&logits), &mut scores, &mut columns);
    let differing = columns.iter().zip(plain.unwrap()).filter(|(a, b)| **a != *b).count();
    assert!(differing < tokens / 1000);
}

#[test]
fn a_draw_depends_on_its_own_place_alone() {
    let mut random = Random::new("loss/sample_labels places");
    let (tokens, vocabulary, seed) = (random.size(3, 9), 1300, random.bits());
    let logits = random.values(tokens * vocabulary);
    let keys: Vec<u32> = (0..2 * tokens).map(|_| random.size(0, 1000) as u32).collect();
    for device in devices() {
        let draw = |tokens: std::ops::Range<usize>, columns: &[std::ops::Range<usize>]| -> Vec<u32> {
            let count = tokens.len();
            let bk = device.upload_new(&keys[2 * tokens.start..2 * tokens.end]).unwrap();
            let best = device.upload_new(&initial_best(count)).unwrap();
            for columns in columns {
                let rows = &logits[tokens.start * vocabulary..tokens.end * vocabulary];
                let part = device.upload_new(&crate::slice(rows, vocabulary, columns.clone())).unwrap();
                run(device, count, columns.len(), columns.start, seed, 1.0, &bk, &part, &best).unwrap();
            }
            device.read::<u32>(&best, 2 * count).unwrap()
        };
        let all = draw(0..tokens, &crate::slices(vocabulary, 9));
        assert_eq!(all, draw(0..tokens, &crate::slices(vocabulary, 1)), "sliced on {}", device.name());
        let last = draw(tokens - 1..tokens, &crate::slices(vocabulary, 2));
        assert_eq!(all[2 * tokens - 2..], last, "alone on {}", device.name());
    }
}

/// The known answers that the generator's authors publish.
#[test]
fn random_bits_are_those_of_philox() {
    for (counter, key, bits) in [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ] {
        assert_eq!(philox(counter, key), bits);
    }
}

/// The score that is kept shows the noise itself: its largest values, over all columns, against float64.
#[test]
fn the_noise_is_that_of_float64() {
    let mut random = Random::new("loss/sample_labels noise");
    let (tokens, width, seed) = (3, 10_000, random.bits());
    let keys: Vec<u32> = (0..2 * tokens).map(|_| random.bits() as u32).collect();
    let noise = |token: usize, column: usize| {
        let counter = [keys[2 * token], keys[2 * token + 1], column as u32 / 4, 0];
        let bits = philox(counter, [seed as u32, (seed >> 32) as u32])[column % 4];
        let kept = if bits >> 24 == 0 { bits | 1 } else { bits >> 8 << 8 };
        -(-(-f64::from(kept) / 2f64.powi(32)).ln_1p()).ln()
    };
    for device in devices() {
        let [bk, best] = [&keys, &initial_best(tokens)].map(|v| device.upload_new(v).unwrap());
        let bl = device.upload_new(&vec![0f32; tokens * width]).unwrap();
        run(device, tokens, width, 0, seed, 1.0, &bk, &bl, &best).unwrap();
        for (token, best) in device.read::<u32>(&best, 2 * tokens).unwrap().chunks(2).enumerate() {
            let want = (0..width).map(|c| noise(token, c)).fold(f64::MIN, f64::max);
            let got = f64::from(f32::from_bits(best[0]));
            assert!((got - want).abs() < 1e-5, "{}: {got}, not {want}", device.name());
            assert!((noise(token, best[1] as usize) - want).abs() < 1e-5);
        }
    }
}
