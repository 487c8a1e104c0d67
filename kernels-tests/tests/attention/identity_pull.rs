//! The pull towards the identity on every device: A' V by a whole map A' in float64.

use super::SHAPES;
use efface::kernels::attention::Heads;
use efface::kernels::attention::identity_pull::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

#[test]
fn matches_a_whole_map_in_float64() {
    let mut random = Random::new("attention/identity_pull");
    for (heads, kv_heads, head_dim) in SHAPES {
        let shape = Heads { heads, kv_heads, head_dim };
        let (samples, variants) = (random.size(1, 3), random.size(1, 4));
        let lengths: Vec<usize> = (0..samples * variants).map(|_| random.size(1, 9)).collect();
        let tokens: usize = lengths.iter().sum();
        let (joint, width) = (shape.qkv_width(), shape.width());
        let qkv = random.values(tokens * joint);
        // A third of the heads are not pulled; some are pulled all the way.
        let knobs: Vec<f32> = random.values(variants * heads).iter().map(|v| (1.5 * v.abs() - 0.5).max(0.0)).collect();
        let (mut keys, mut mixed, mut want) = (Vec::new(), vec![0.0f32; tokens * width], vec![0.0; tokens * width]);
        let mut first = 0;
        for (number, length) in lengths.iter().enumerate() {
            keys.extend((0..*length).flat_map(|t| [number as u32, t as u32]));
            for head in 0..heads {
                let knob = f64::from(knobs[number / samples * heads + head]);
                let v = |t: usize, c: usize| {
                    let column = (heads + kv_heads + head / (heads / kv_heads)) * head_dim + c;
                    f64::from(qkv[(first + t) * joint + column])
                };
                for t in 0..*length {
                    let raw: Vec<f64> = (0..=t).map(|_| f64::from(random.signed()).exp()).collect();
                    let map: Vec<f64> = raw.iter().map(|e| e / raw.iter().sum::<f64>()).collect();
                    for c in 0..head_dim {
                        let place = (first + t) * width + head * head_dim + c;
                        mixed[place] = (0..=t).map(|s| map[s] * v(s, c)).sum::<f64>() as f32;
                        let pulled = |s: usize| (1.0 - knob) * map[s] + if s == t { knob } else { 0.0 };
                        want[place] = (0..=t).map(|s| pulled(s) * v(s, c)).sum::<f64>();
                    }
                }
            }
            first += length;
        }
        for device in devices() {
            let [bk, bq, bm] = [&knobs, &qkv, &mixed].map(|v| device.upload_new(v).unwrap());
            let bkeys = device.upload_new(&keys).unwrap();
            run(device, shape, tokens, samples, (&bk, &bkeys), &bq, &bm).unwrap();
            let got = device.read::<f32>(&bm, mixed.len()).unwrap();
            assert_close(&device.name(), &got, &want, 3e-7);
            for (i, (got, old)) in got.iter().zip(&mixed).enumerate() {
                let (token, head) = (i / width, i % width / head_dim);
                let knob = knobs[keys[2 * token] as usize / samples * heads + head];
                assert!(knob != 0.0 || got.to_bits() == old.to_bits(), "{}: {i} changed", device.name());
            }
        }
        let p = Params {
            tokens: tokens as u32,
            heads: heads as u32,
            head_dim: head_dim as u32,
            group: (heads / kv_heads) as u32,
            stride: joint as u32,
            v_offset: ((heads + kv_heads) * head_dim) as u32,
            samples: samples as u32,
        };
        let mut plain = wide(&mixed);
        reference(&p, &wide(&knobs), &keys, &wide(&qkv), &mut plain);
        let plain: Vec<f32> = plain.iter().map(|v| *v as f32).collect();
        assert_close("reference", &plain, &want, 3e-7);
    }
}

#[test]
fn a_variant_without_samples_is_refused() {
    let device = &devices()[0];
    let [a, b, c, d] = [(); 4].map(|()| device.allocate(64).unwrap());
    let heads = Heads { heads: 1, kv_heads: 1, head_dim: 4 };
    assert!(run(device, heads, 1, 0, (&a, &b), &c, &d).unwrap_err().is_input());
}
