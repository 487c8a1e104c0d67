//! `y = f(x)` on every device.

use efface::kernels::activation::Activation;
use efface::kernels::activation::forward::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::{arguments, moderate, value};

#[test]
fn matches_float64() {
    let mut random = Random::new("activation/forward");
    for activation in Activation::ALL {
        for count in [1, random.size(257, 30_000)] {
            let x = arguments(&mut random, count);
            let want: Vec<f64> = wide(&x).into_iter().map(|x| value(activation, x)).collect();
            for device in devices() {
                let what = format!("{activation:?} {}", device.name());
                let (bx, by) = (device.upload_new(&x).unwrap(), device.allocate((count * 4) as u64).unwrap());
                run(device, activation, count, &bx, &by).unwrap();
                check(&what, &x, &device.read::<f32>(&by, count).unwrap(), &want);
            }
            let mut plain = vec![0.0; count];
            reference(&Params { count: count as u32 }, activation, &x, &mut plain);
            check("reference", &x, &plain, &want);
        }
    }
}

fn check(what: &str, x: &[f32], got: &[f32], want: &[f64]) {
    // All at once, where the largest dominate, then those of magnitude up to 10, then each negative one: the left tail is an
    // exponential, whose exponent's rounding becomes a relative error. The exponent reaches 25 (GELU's tanh form at -6)
    // and is rounded four times on its way: 25 * 4 * 2^-24 = 6e-6.
    assert_close(what, got, want, 1e-6);
    let (got_moderate, want_moderate) = moderate(x, got, want);
    assert_close(&format!("{what}, moderate"), &got_moderate, &want_moderate, 3e-7);
    for i in (0..x.len()).filter(|i| x[*i] < 0.0 && x[*i] > -6.0) {
        let error = (f64::from(got[i]) - want[i]).abs();
        assert!(error <= 6e-6 * want[i].abs() + 1e-14, "{what}: f({}) is {}, not {}", x[i], got[i], want[i]);
    }
}

#[test]
fn infinities_and_nan_do_not_spread() {
    for activation in Activation::ALL {
        for device in devices() {
            let x = [f32::MAX, f32::MIN, f32::NAN, 1.0];
            let (bx, by) = (device.upload_new(&x).unwrap(), device.allocate(16).unwrap());
            run(device, activation, 4, &bx, &by).unwrap();
            let y = device.read::<f32>(&by, 4).unwrap();
            let what = format!("{activation:?} {}: {y:?}", device.name());
            assert!(y[0] == f32::MAX && y[1].abs() < 1e10 && y[3].is_finite(), "{what}");
            assert!(y[2].is_nan(), "{what}");
        }
    }
}
