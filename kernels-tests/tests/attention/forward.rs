//! Causal attention on every device.

use efface::kernels::attention::forward::{Params, reference, run};
use efface::kernels::attention::{Heads, Tiles, tiles};
use kernels_tests::{Random, assert_close, devices};

use crate::{Case, SHAPES};

#[test]
fn matches_float64() {
    let mut random = Random::new("attention/forward");
    for shape in SHAPES {
        let case = Case::new(&mut random, shape);
        let Case { heads, scale, tokens, ref want, .. } = case;
        for device in devices() {
            let [qkv, tiles] = [device.upload_new(&case.qkv).unwrap(), device.upload_new(&case.tiles).unwrap()];
            let out = device.allocate((want.out.len() * 4) as u64).unwrap();
            let log_sums = device.allocate((want.log_sums.len() * 4) as u64).unwrap();
            let tiles = Tiles::new(&tiles, &case.tiles);
            run(device, heads, scale, tokens, tiles, &qkv, &out, &log_sums).unwrap();
            let what = format!("{heads:?} {:?} {}", case.tiles, device.name());
            assert_close(&what, &device.read::<f32>(&out, want.out.len()).unwrap(), &want.out, 1e-6);
            let got = device.read::<f32>(&log_sums, want.log_sums.len()).unwrap();
            assert_close(&format!("log sums of {what}"), &got, &want.log_sums, 1e-6);
        }
        let p = Params {
            heads: heads.heads as u32,
            kv_heads: heads.kv_heads as u32,
            head_dim: heads.head_dim as u32,
            scale,
        };
        let (mut out, mut log_sums) = (vec![0.0; want.out.len()], vec![0.0; want.log_sums.len()]);
        reference(&p, &case.tiles, &case.qkv, &mut out, &mut log_sums);
        assert_close("reference", &out, &want.out, 1e-6);
        assert_close("reference, log sums", &log_sums, &want.log_sums, 1e-6);
    }
}

/// On a GPU, what else is in the launch does not change a sample's bits.
#[test]
fn neighbours_do_not_matter() {
    let mut random = Random::new("attention/forward neighbours");
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: random.size(5, 40) };
    let (before, own, after) = (random.size(1, 40), random.size(20, 60), random.size(1, 40));
    let tokens = before + own + after;
    let qkv = random.values(tokens * heads.qkv_width());
    let offsets = [0, before as u32, (before + own) as u32, tokens as u32];
    for device in devices().iter().filter(|d| !d.is_cpu()) {
        let results = |qkv: &[f32], offsets: &[u32]| {
            let count = qkv.len() / heads.qkv_width();
            let (words, qkv) = (tiles(offsets), device.upload_new(qkv).unwrap());
            let buffer = device.upload_new(&words).unwrap();
            let out = device.allocate((count * heads.width() * 4) as u64).unwrap();
            let log_sums = device.allocate((count * heads.heads * 4) as u64).unwrap();
            let tiles = Tiles::new(&buffer, &words);
            run(device, heads, 0.3, count, tiles, &qkv, &out, &log_sums).unwrap();
            device.read::<f32>(&out, count * heads.width()).unwrap()
        };
        let together = results(&qkv, &offsets);
        let alone = results(&qkv[before * heads.qkv_width()..][..own * heads.qkv_width()], &[0, own as u32]);
        assert_eq!(alone, together[before * heads.width()..][..own * heads.width()], "{}", device.name());
    }
}

/// Scores whose exponentials would overflow, were the largest not taken off first.
#[test]
fn large_scores_do_not_overflow() {
    let heads = Heads { heads: 1, kv_heads: 1, head_dim: 2 };
    // The scores of query t are 300 (t + 1) (s + 1): the last key wins outright, and its value is its number.
    let qkv: Vec<f32> =
        (0..40u8).map(f32::from).flat_map(|t| [30.0 * (t + 1.0), 0.0, 10.0 * (t + 1.0), 0.0, t, -t]).collect();
    let words = tiles(&[0, 40]);
    for device in devices() {
        let [bqkv, buffer] = [device.upload_new(&qkv).unwrap(), device.upload_new(&words).unwrap()];
        let (out, log_sums) = (device.allocate(320).unwrap(), device.allocate(160).unwrap());
        run(device, heads, 1.0, 40, Tiles::new(&buffer, &words), &bqkv, &out, &log_sums).unwrap();
        let want: Vec<f64> = (0..40u8).map(f64::from).flat_map(|t| [t, -t]).collect();
        assert_close(&device.name(), &device.read::<f32>(&out, 80).unwrap(), &want, 1e-7);
        let want: Vec<f64> = (0..40u8).map(|t| 300.0 * (f64::from(t) + 1.0).powi(2)).collect();
        assert_close(&device.name(), &device.read::<f32>(&log_sums, 40).unwrap(), &want, 1e-7);
    }
}

#[test]
fn heads_that_do_not_fit_are_refused() {
    let device = &devices()[0];
    let buffer = device.allocate(4096).unwrap();
    for (heads, kv_heads, head_dim) in [(3, 2, 4), (1, 1, 257), (1, 0, 4), (0, 1, 4), (1, 1, 0)] {
        let heads = Heads { heads, kv_heads, head_dim };
        let tiles = Tiles::new(&buffer, &[0; 4]);
        let error = run(device, heads, 1.0, 1, tiles, &buffer, &buffer, &buffer).unwrap_err();
        assert!(error.to_string().contains("not supported"), "{error}");
    }
}
