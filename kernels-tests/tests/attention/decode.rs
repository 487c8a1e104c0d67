//! Attention of one token per sequence to a cache, on every device.

use efface::kernels::attention::Heads;
use efface::kernels::attention::decode::{Lengths, Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::SHAPES;

#[test]
fn matches_float64() {
    let mut random = Random::new("attention/decode");
    for (heads, kv_heads, head_dim) in SHAPES {
        let heads = Heads { heads, kv_heads, head_dim };
        let (batch, capacity) = (random.size(2, 4), random.size(65, 150));
        let scale = 1.0 / (head_dim as f32).sqrt();
        let lengths: Vec<u32> =
            (0..batch).map(|n| if n == 0 { capacity } else { random.size(1, capacity) } as u32).collect();
        let qkv: Vec<f32> = random.values(batch * heads.qkv_width()).iter().map(|v| 2.0 * v).collect();
        let [keys, values] = [(); 2].map(|()| random.values(batch * capacity * kv_heads * head_dim));
        let want = formula(&heads, scale, capacity, &lengths, &wide(&qkv), &wide(&keys), &wide(&values));
        for device in devices() {
            let [bqkv, bkeys, bvalues] = [&qkv, &keys, &values].map(|v| device.upload_new(v).unwrap());
            let blengths = device.upload_new(&lengths).unwrap();
            let out = device.allocate((want.len() * 4) as u64).unwrap();
            let cached = Lengths { buffer: &blengths, tokens: lengths.iter().map(|l| u64::from(*l)).sum() };
            run(device, heads, scale, batch, capacity, &bqkv, cached, &bkeys, &bvalues, &out).unwrap();
            let what = format!("{heads:?} {lengths:?} of {capacity} {}", device.name());
            assert_close(&what, &device.read::<f32>(&out, want.len()).unwrap(), &want, 1e-6);
        }
        let p = Params {
            heads: heads.heads as u32,
            kv_heads: kv_heads as u32,
            head_dim: head_dim as u32,
            scale,
            capacity: capacity as u32,
        };
        let mut plain = vec![0.0; want.len()];
        reference(&p, &qkv, &lengths, &keys, &values, &mut plain);
        assert_close("reference", &plain, &want, 1e-6);
    }
}

/// The softmax as a quotient of two sums.
fn formula(
    heads: &Heads,
    scale: f32,
    capacity: usize,
    lengths: &[u32],
    qkv: &[f64],
    keys: &[f64],
    values: &[f64],
) -> Vec<f64> {
    let Heads { heads, kv_heads, head_dim } = *heads;
    let mut out = Vec::new();
    for (n, length) in lengths.iter().enumerate() {
        for head in 0..heads {
            let row = |s: usize| ((n * capacity + s) * kv_heads + head / (heads / kv_heads)) * head_dim;
            let query = &qkv[(n * (heads + 2 * kv_heads) + head) * head_dim..][..head_dim];
            let weight = |s: usize| {
                let score: f64 = query.iter().zip(&keys[row(s)..]).map(|(q, k)| q * k).sum();
                (f64::from(scale) * score).exp()
            };
            let weights: Vec<f64> = (0..*length as usize).map(weight).collect();
            let total: f64 = weights.iter().sum();
            for c in 0..head_dim {
                out.push(weights.iter().enumerate().map(|(s, w)| w * values[row(s) + c]).sum::<f64>() / total);
            }
        }
    }
    out
}
