//! Attention over a cache on every device: the last token of each sample, against attention over the whole sample.

use efface::kernels::attention::decode::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

use crate::Case;

#[test]
fn the_last_token_attends_as_in_the_whole_sample() {
    let mut random = Random::new("attention/decode");
    for (longest, widest) in [(150, 20), (9, 256)] {
        let case = Case::new(&mut random, longest, widest);
        let (h, batch) = (case.heads, case.offsets.len() - 1);
        let (width, capacity) = (h.kv_heads * h.head_dim, longest + random.size(0, 5));
        let (all, _) = case.attend(&wide(&case.qkv));
        // What lies beyond a sequence's length must not matter.
        let (mut keys, mut values) = (random.values(batch * capacity * width), random.values(batch * capacity * width));
        let (mut rows, mut lengths, mut want) = (Vec::new(), Vec::new(), Vec::new());
        for (b, ends) in case.offsets.windows(2).enumerate() {
            let (first, end) = (ends[0] as usize, ends[1] as usize);
            for t in first..end {
                let row = &case.qkv[t * h.qkv_width()..(t + 1) * h.qkv_width()];
                let place = (b * capacity + t - first) * width;
                keys[place..place + width].copy_from_slice(&row[h.k_offset()..h.v_offset()]);
                values[place..place + width].copy_from_slice(&row[h.v_offset()..]);
            }
            rows.extend(&case.qkv[(end - 1) * h.qkv_width()..end * h.qkv_width()]);
            lengths.push((end - first) as u32);
            want.extend(&all[(end - 1) * h.width()..end * h.width()]);
        }
        for device in devices() {
            let [bq, bk, bv] = [&rows, &keys, &values].map(|v| device.upload_new(v).unwrap());
            let bl = device.upload_new(&lengths).unwrap();
            let out = device.allocate(want.len() as u64 * 4).unwrap();
            run(device, h, case.scale, batch, capacity, &bq, &bl, &bk, &bv, &out).unwrap();
            assert_close(&device.name(), &device.read::<f32>(&out, want.len()).unwrap(), &want, 2e-6);
        }
        let params = Params {
            heads: h.heads as u32,
            kv_heads: h.kv_heads as u32,
            head_dim: h.head_dim as u32,
            capacity: capacity as u32,
            scale: case.scale,
        };
        let mut plain = vec![0.0; want.len()];
        reference(&params, batch, &rows, &lengths, &keys, &values, &mut plain);
        assert_close("reference", &plain, &want, 2e-6);
    }
}
