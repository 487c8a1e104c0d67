//! Against scipy (`tests/fixtures/statistics.py` prints the figures) and against definitions.

use proptest::prelude::*;

use super::*;

fn close(got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-10 * want.abs(), "{got} instead of {want}");
}

#[test]
fn kolmogorov_smirnov_is_scipys() {
    let series = |count: usize, factor: usize, modulus: usize| {
        (0..count).map(move |i| ((i * factor % modulus) as f64) / modulus as f64)
    };
    let squared: Vec<f64> = series(60, 104_729, 997).map(|x| x * x).collect();
    let shifted: Vec<f64> = series(150, 104_729, 997).map(|x| 0.5 + x).collect();
    let count = |from: usize| (from..from + 300).map(|i| i as f64).collect::<Vec<_>>();
    for (one, other, statistic, p) in [
        (vec![1.0, 2.0, 3.0, 4.0, 5.0], vec![2.5, 3.5, 6.0, 7.0], 0.5, 0.5634920634920635),
        (vec![1.0, 1.0, 2.0, 2.0], vec![2.0, 2.0, 3.0], 0.5, 0.6571428571428571),
        (series(40, 7919, 1009).collect(), squared, 0.3416666666666667, 0.005918732564998333),
        (series(200, 7919, 1009).collect(), shifted, 0.495, 1.4124054987628072e-19),
        (count(0), count(1000), 1.0, 1.4802978791996799e-179),
    ] {
        let test = ks_two_sample(&one, &other).unwrap();
        close(test.statistic, statistic);
        close(test.p_value, p);
        assert_eq!(ks_two_sample(&other, &one).unwrap().statistic, test.statistic);
    }
    let same = ks_two_sample(&[1.0, 2.0], &[1.0, 2.0]).unwrap();
    assert_eq!((same.statistic, same.p_value), (0.0, 1.0));
    assert!(ks_two_sample(&[], &[1.0]).is_none() && ks_two_sample(&[f64::NAN], &[1.0]).is_none());
}

#[test]
fn kolmogorovs_limit_is_scipys() {
    for (x, p) in [
        (0.5, 0.9639452436648751),
        (1.0, 0.26999967167735456),
        (1.36, 0.049485876755377876),
        (2.0, 0.0006709252557796953),
    ] {
        close(kolmogorov_tail(x), p);
    }
    assert_eq!(kolmogorov_tail(0.0), 1.0);
}

#[test]
fn wilsons_interval_is_scipys() {
    for (successes, count, [low, high]) in [
        (0, 10, [0.0, 0.27753279986288926]),
        (7, 10, [0.39677814746114526, 0.892208732593699]),
        (95, 100, [0.8882495307680809, 0.978456320845632]),
        (200, 200, [0.9811546736227335, 1.0]),
    ] {
        let interval = wilson(successes, count);
        assert!((interval[0] - low).abs() < 1e-12 && (interval[1] - high).abs() < 1e-12, "{interval:?}");
    }
    assert_eq!(wilson(0, 0), [0.0, 1.0]);
}

#[test]
fn means_and_areas_by_hand() {
    close(harmonic_mean(&[1.0, 0.5, 0.25]).unwrap(), 3.0 / 7.0);
    assert_eq!(harmonic_mean(&[1.0, 0.0]), Some(0.0));
    assert_eq!(harmonic_mean(&[]), None);
    // Pairs: 3>1, 3>2, 2>1 and a tie: 3.5 of 4.
    assert_eq!(auc(&[3.0, 2.0], &[1.0, 2.0]), Some(0.875));
    assert_eq!((auc(&[1.0], &[2.0]), auc(&[], &[2.0]), auc(&[f64::NAN], &[2.0])), (Some(0.0), None, None));
}

#[test]
fn resampling_covers_the_mean_and_repeats() {
    let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
    let [low, high] = bootstrap_mean(&values, 2000, 7).unwrap();
    // The normal approximation: 0.5 ± 1.96 · 0.5 / 20.
    assert!((low - 0.451).abs() < 0.008 && (high - 0.549).abs() < 0.008, "{low} {high}");
    assert_eq!(bootstrap_mean(&values, 2000, 7), Some([low, high]));
    assert_eq!(bootstrap_mean(&[0.25], 10, 1), Some([0.25, 0.25]));
    assert_eq!(bootstrap_mean(&[], 10, 1), None);
}

/// Every merging of n and m values, as the definition has it.
fn by_counting(n: usize, m: usize, distance: u64) -> f64 {
    let (mut all, mut far) = (0u64, 0u64);
    for merging in 0u32..1 << (n + m) {
        if merging.count_ones() as usize != n {
            continue;
        }
        let (mut i, mut j, mut largest) = (0u64, 0u64, 0u64);
        for step in 0..n + m {
            if (merging >> step) & 1 == 1 {
                i += 1
            } else {
                j += 1
            }
            largest = largest.max((i * m as u64).abs_diff(j * n as u64));
        }
        all += 1;
        far += u64::from(largest >= distance);
    }
    far as f64 / all as f64
}

proptest! {
    #[test]
    fn exact_tails_are_counts(n in 1..7usize, m in 1..7usize, distance in 0..40u64) {
        prop_assert!((exact_tail(n, m, distance) - by_counting(n, m, distance)).abs() < 1e-12);
    }

    #[test]
    fn areas_are_counts_of_pairs(
        higher in prop::collection::vec(0..6i32, 1..9), lower in prop::collection::vec(0..6i32, 1..9),
    ) {
        let pairs = higher.iter().flat_map(|h| lower.iter().map(move |l| match h.cmp(l) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        }));
        let expected = pairs.sum::<f64>() / (higher.len() * lower.len()) as f64;
        let numbers = |list: &[i32]| list.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        prop_assert!((auc(&numbers(&higher), &numbers(&lower)).unwrap() - expected).abs() < 1e-12);
    }
}
