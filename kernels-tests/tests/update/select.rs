//! Masks on every device: exactly those of float64, and of the size that the histogram promises.

use efface::kernels::update::log_ratio_histogram::{self, BINS, FIRST, INFINITE, OVERFLOW, UNDERFLOW, lower_edge};
use efface::kernels::update::select::{Params, reference, run};
use kernels_tests::{Random, devices};

use crate::{Comparison, importances, ratio};

#[test]
fn selects_exactly_what_is_above() {
    let mut random = Random::new("update/select");
    for count in [1, 31, 257, random.size(1000, 70_000)] {
        let (forget, retain) = (importances(&mut random, count), importances(&mut random, count));
        for comparison in Comparison::both(&mut random) {
            let Comparison { forget_scale, retain_scale, blend } = comparison;
            let edge = lower_edge(random.size(FIRST, OVERFLOW)).unwrap();
            for threshold in [0.0, -0.0, edge, edge.next_down(), 2.7, f32::MAX, f32::INFINITY] {
                let mut want = vec![0u32; count.div_ceil(32)];
                for (i, (f, r)) in forget.iter().zip(&retain).enumerate() {
                    let above = comparison.pair(*f, *r).is_some_and(|(f, c)| ratio(f, c) > f64::from(threshold));
                    want[i / 32] |= u32::from(above) << (i % 32);
                }
                for device in devices() {
                    let [bf, br] = [&forget, &retain].map(|v| device.upload_new(v).unwrap());
                    // What the mask held before does not matter; what lies behind it does.
                    let bm = device.upload_new(&vec![0xdead_beefu32; want.len() + 1]).unwrap();
                    run(device, count, &bf, forget_scale, &br, retain_scale, blend, threshold, &bm).unwrap();
                    let got = device.read::<u32>(&bm, want.len() + 1).unwrap();
                    assert_eq!(got[..want.len()], want, "{} {comparison:?} > {threshold}", device.name());
                    assert_eq!(got[want.len()], 0xdead_beef);
                }
                let bits = (threshold + 0.0).to_bits();
                let p = Params { count: count as u32, forget_scale, retain_scale, blend, threshold: bits };
                let mut plain = vec![u32::MAX; want.len()];
                reference(&p, &forget, &retain, &mut plain);
                assert_eq!(plain, want);
            }
        }
    }
}

#[test]
fn the_number_before_a_bins_edge_selects_the_bins_from_it_on() {
    let mut random = Random::new("update/select edges");
    let count = random.size(20_000, 50_000);
    let (forget, retain) = (importances(&mut random, count), importances(&mut random, count));
    for device in devices() {
        let [bf, br] = [&forget, &retain].map(|v| device.upload_new(v).unwrap());
        let [bh, bm] = [BINS, count.div_ceil(32)].map(|n| device.allocate(4 * n as u64).unwrap());
        log_ratio_histogram::run(device, count, &bf, 0.01, &br, 0.03, 0.2, &bh).unwrap();
        let histogram = device.read::<u32>(&bh, BINS).unwrap();
        for bin in [UNDERFLOW, FIRST, random.size(FIRST, OVERFLOW), 3600, OVERFLOW, INFINITE] {
            let threshold = lower_edge(bin).unwrap().next_down();
            run(device, count, &bf, 0.01, &br, 0.03, 0.2, threshold, &bm).unwrap();
            let mask = device.read::<u32>(&bm, count.div_ceil(32)).unwrap();
            let selected: u32 = mask.iter().map(|word| word.count_ones()).sum();
            assert_eq!(selected, histogram[bin..=INFINITE].iter().sum::<u32>(), "bin {bin} on {}", device.name());
        }
    }
}

#[test]
fn refuses_what_is_no_threshold() {
    let device = &devices()[0];
    let [f, r, m] = [(); 3].map(|()| device.allocate(4).unwrap());
    for threshold in [-1.0, f32::NAN] {
        assert!(run(device, 1, &f, 1.0, &r, 1.0, 0.0, threshold, &m).unwrap_err().is_input());
    }
}
