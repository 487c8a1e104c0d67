//! Sums of squares on every device: every block its own partial, and all of them together the whole sum.

use efface::kernels::reduce::square_sum::{Params, partial_count, reference, run};
use kernels_tests::{Random, assert_close, devices, variants};

#[test]
fn matches_float64() {
    let mut random = Random::new("reduce/square_sum");
    for count in [1, 4095, 4096, 4097, random.size(1, 200_000)] {
        let x = random.values(count + 9);
        let squares: Vec<f64> = x[..count].iter().map(|x| f64::from(*x).powi(2)).collect();
        let want: Vec<f64> = squares.chunks(4096).map(|block| block.iter().sum()).collect();
        assert_eq!(partial_count(count), want.len());
        for device in devices() {
            let bx = device.upload_new(&x).unwrap();
            let bp = device.upload_new(&random.values(want.len() + 1)).unwrap();
            let untouched = device.read::<f32>(&bp, want.len() + 1).unwrap()[want.len()];
            run(device, count, &bx, &bp).unwrap();
            let got = device.read::<f32>(&bp, want.len() + 1).unwrap();
            assert_close(&format!("{} of {count}", device.name()), &got[..want.len()], &want, 1e-6);
            assert_eq!(got[want.len()], untouched, "{}", device.name());
            let whole: f64 = got[..want.len()].iter().map(|p| f64::from(*p)).sum();
            assert!((whole / squares.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{} of {count}", device.name());
        }
        let mut plain: Vec<f64> = vec![0.0; want.len()];
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        reference(&Params { count: count as u32 }, &wide, &mut plain);
        let plain: Vec<f32> = plain.iter().map(|p| *p as f32).collect();
        assert_close("reference", &plain, &want, 1e-6);
    }
}

/// With subgroups and without, the same bits.
#[test]
fn all_reductions_give_the_same_bits() {
    let mut random = Random::new("reduce/square_sum reductions");
    let count = random.size(4097, 20_000);
    let x = random.values(count);
    let mut first: Option<Vec<f32>> = None;
    for (name, device) in variants("reduce/square_sum").into_iter().filter(|(_, device)| !device.is_cpu()) {
        let (bx, bp) = (device.upload_new(&x).unwrap(), device.allocate(partial_count(count) as u64 * 4).unwrap());
        run(&device, count, &bx, &bp).unwrap();
        let got = device.read::<f32>(&bp, partial_count(count)).unwrap();
        assert_eq!(*first.get_or_insert_with(|| got.clone()), got, "{name}");
    }
}
