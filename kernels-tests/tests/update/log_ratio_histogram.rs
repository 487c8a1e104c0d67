//! Counts of ratios on every device: exactly those of float64.

use efface::kernels::update::log_ratio_histogram::{
    BINS, EMPTY, FIRST, INFINITE, INVALID, OVERFLOW, Params, UNDERFLOW, ZERO, bin_of, lower_edge, reference, run,
};
use kernels_tests::{Random, devices};

use crate::{Comparison, importances, ratio};

/// The bin by logarithms: 128 parts of each octave from 2^-24 to 2^36.
fn bin(pair: Option<(f64, f64)>) -> usize {
    let Some((forget, compared)) = pair else { return INVALID };
    let r = ratio(forget, compared);
    if forget == 0.0 {
        return if compared == 0.0 { EMPTY } else { ZERO };
    }
    if r == f64::INFINITY {
        return INFINITE;
    }
    // Exact: a ratio has 24 digits, and the powers are those of two.
    let octave = (-24..36).rev().find(|o| r >= 2f64.powi(*o));
    match octave {
        None => UNDERFLOW,
        Some(_) if r >= 2f64.powi(36) => OVERFLOW,
        Some(o) => FIRST + 128 * (o + 24) as usize + ((r / 2f64.powi(o) - 1.0) * 128.0).floor() as usize,
    }
}

#[test]
fn counts_exactly() {
    let mut random = Random::new("update/log_ratio_histogram");
    for count in [1, random.size(2, 3000), random.size(130_000, 200_000)] {
        let (forget, retain) = (importances(&mut random, count), importances(&mut random, count));
        for comparison in Comparison::both(&mut random) {
            let Comparison { forget_scale, retain_scale, blend } = comparison;
            // Counts are added to what is there.
            let start: Vec<u32> = (0..BINS as u32).collect();
            let mut want = start.clone();
            for (f, r) in forget.iter().zip(&retain) {
                want[bin(comparison.pair(*f, *r))] += 1;
            }
            for device in devices() {
                let [bf, br] = [&forget, &retain].map(|v| device.upload_new(v).unwrap());
                let bh = device.upload_new(&start).unwrap();
                run(device, count, &bf, forget_scale, &br, retain_scale, blend, &bh).unwrap();
                assert_eq!(device.read::<u32>(&bh, BINS).unwrap(), want, "{} {comparison:?}", device.name());
            }
            let mut plain = start.clone();
            reference(&Params { count: count as u32, forget_scale, retain_scale, blend }, &forget, &retain, &mut plain);
            assert_eq!(plain, want);
        }
    }
}

/// Quotients so close below an edge that they round to it: integers a and b of 24 bits with a b-th less than the edge.
#[test]
fn a_quotient_that_rounds_to_an_edge_belongs_to_its_bin() {
    let mut random = Random::new("update/log_ratio_histogram rounding");
    let pairs: Vec<(f32, f32)> = (0..5000)
        .map(|_| {
            let (b, parts) = (random.size(1 << 23, (1 << 24) - 1), random.size(129, 255));
            ((b * parts / 128) as f32, b as f32)
        })
        .filter(|(a, b)| *a < 2f32.powi(24) && *b < 2f32.powi(24))
        .collect();
    let (forget, retain): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
    let mut want = vec![0u32; BINS];
    let mut rounded_up = 0;
    for (a, b) in &pairs {
        let exact = f64::from(*a) / f64::from(*b);
        let bin = bin(Some((f64::from(*a), f64::from(*b))));
        rounded_up += u32::from(exact < f64::from(lower_edge(bin).unwrap()));
        want[bin] += 1;
    }
    assert!(rounded_up > 100, "{rounded_up} quotients round up to an edge");
    for device in devices() {
        let [bf, br] = [&forget, &retain].map(|v| device.upload_new(v).unwrap());
        let bh = device.allocate(4 * BINS as u64).unwrap();
        run(device, pairs.len(), &bf, 1.0, &br, 1.0, 0.0, &bh).unwrap();
        assert_eq!(device.read::<u32>(&bh, BINS).unwrap(), want, "{}", device.name());
    }
}

#[test]
fn edges_and_bins_agree() {
    let edges: Vec<f32> = (UNDERFLOW..=INFINITE).map(|b| lower_edge(b).unwrap()).collect();
    assert_eq!(edges[1], 2f32.powi(-24));
    assert_eq!(edges[OVERFLOW - UNDERFLOW], 2f32.powi(36));
    for (bin, edge) in (UNDERFLOW..).zip(&edges) {
        assert_eq!(bin_of(*edge), bin);
        assert_eq!(bin_of(edge.next_down()), bin - 1);
    }
    assert!(edges.windows(2).all(|e| e[0] < e[1]));
    assert!([EMPTY, ZERO, INVALID, BINS].iter().all(|b| lower_edge(*b).is_none()));
    assert_eq!([bin_of(-1.0), bin_of(f32::NAN), bin_of(-0.0)], [INVALID, INVALID, ZERO]);
}

#[test]
fn refuses_what_is_no_scale() {
    let device = &devices()[0];
    let [f, r, h] = [(); 3].map(|()| device.allocate(4 * BINS as u64).unwrap());
    for (scale, blend) in [(0.0, 0.0), (-1.0, 0.0), (f32::NAN, 0.0), (1.0, 1.0), (1.0, -0.1), (1.0, f32::NAN)] {
        assert!(run(device, 1, &f, scale, &r, 1.0, blend, &h).unwrap_err().is_input());
    }
    assert!(run(device, (1 << 31) + 1, &f, 1.0, &r, 1.0, 0.0, &h).is_err());
}
