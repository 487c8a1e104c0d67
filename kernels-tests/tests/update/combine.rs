//! What several forms' importances come to, on every device, against float64.

use efface::kernels::update::combine::{How, Params, reference, run};
use kernels_tests::{Random, devices};

use crate::importances;

/// An importance as the family defines it, in float64, rounded to float32 once.
fn scaled(stored: f32, scale: f32) -> Option<f64> {
    match stored {
        s if !s.is_finite() || s <= -2f32.powi(-126) => None,
        s if s.abs() < 2f32.powi(-126) => Some(0.0),
        s => {
            let value = (f64::from(s) * f64::from(scale)) as f32;
            if value < 2f32.powi(-125) { Some(0.0) } else { value.is_finite().then_some(f64::from(value)) }
        }
    }
}

fn expected(how: How, values: &[Option<f64>]) -> Option<f64> {
    let values: Vec<f64> = values.iter().copied().collect::<Option<_>>()?;
    let count = values.len() as f64;
    Some(match how {
        How::Mean => values.iter().sum::<f64>() / count,
        How::Geometric if values.contains(&0.0) => 0.0,
        How::Geometric => (values.iter().map(|v| v.ln()).sum::<f64>() / count).exp(),
        How::Ranked(rank) => {
            let mut sorted = values;
            sorted.sort_by(f64::total_cmp);
            sorted[sorted.len() - rank]
        }
    })
}

#[track_caller]
fn check(what: &str, how: How, got: f32, want: Option<f64>) {
    let got = f64::from(got);
    match want {
        None => assert_eq!(got, -1.0, "{what}"),
        // Zero by flushing, or too large to be an importance.
        Some(want) if want < 2.01 * 2f64.powi(-126) => {
            assert!((0.0..=want * 1.01).contains(&got), "{what}: {got:e} for {want:e}")
        }
        Some(want) if want > f64::from(f32::MAX) * 0.999 => {
            assert!(got >= want * 0.999 || got == f64::INFINITY, "{what}")
        }
        Some(want) => {
            let allowed = if matches!(how, How::Ranked(_)) { 0.0 } else { 2e-6 };
            assert!((got - want).abs() <= allowed * want, "{what}: {got:e} for {want:e}");
        }
    }
}

#[test]
fn matches_float64() {
    let mut random = Random::new("update/combine");
    for (forms, count) in
        [(1, 300), (2, 257), (3, random.size(1000, 40_000)), (random.size(5, 20), random.size(1, 3000))]
    {
        let sums = importances(&mut random, forms * count);
        let scales: Vec<f32> = (0..forms).map(|_| 1.0 / random.size(1, 700) as f32).collect();
        let rank = random.size(1, forms + 1).min(forms);
        for how in [How::Mean, How::Geometric, How::Ranked(1), How::Ranked(forms), How::Ranked(rank)] {
            let of = |i: usize| (0..forms).map(|k| scaled(sums[k * count + i], scales[k])).collect::<Vec<_>>();
            let want: Vec<Option<f64>> = (0..count).map(|i| expected(how, &of(i))).collect();
            for device in devices() {
                let [bs, bc] = [&sums, &scales].map(|v| device.upload_new(v).unwrap());
                let out = device.upload_new(&vec![7.0f32; count + 1]).unwrap();
                run(device, count, forms, how, &bs, &bc, &out).unwrap();
                let got = device.read::<f32>(&out, count + 1).unwrap();
                for i in 0..count {
                    let what = format!("{how:?} of {:?} on {}", of(i), device.name());
                    check(&what, how, got[i], want[i]);
                }
                assert_eq!(got[count], 7.0);
            }
            let p = Params { count: count as u32, forms: forms as u32, rank: 1 };
            let mut plain = vec![7.0; count];
            reference(&p, how, &sums, &scales, &mut plain);
            for i in 0..count {
                check("reference", how, plain[i], want[i]);
            }
        }
    }
}

#[test]
fn refuses_ranks_that_no_form_has() {
    let device = &devices()[0];
    let [s, c, o] = [(); 3].map(|()| device.allocate(16).unwrap());
    for (forms, rank) in [(3, 0), (3, 4), (0, 1)] {
        assert!(run(device, 1, forms, How::Ranked(rank), &s, &c, &o).unwrap_err().is_input());
    }
}
