//! Keys and values into a cache, on every device.

use efface::kernels::attention::cache_append::{Params, reference, run};
use kernels_tests::{Random, devices};

use crate::Case;

#[test]
fn every_key_and_value_is_in_its_slot() {
    let mut random = Random::new("attention/cache_append");
    let case = Case::new(&mut random, 9, 20);
    let (h, tokens) = (case.heads, case.tokens());
    let (width, rows) = (h.kv_heads * h.head_dim, tokens + 5);
    let slots: Vec<u32> = (0..tokens as u32).map(|t| (t * 7 + 3) % rows as u32).collect();
    let distinct = slots.iter().collect::<std::collections::BTreeSet<_>>().len() == tokens;
    let slots = if distinct { slots } else { (0..tokens as u32).rev().collect() };
    let cache = random.values(rows * width);
    let (mut keys, mut values) = (cache.clone(), cache.clone());
    for (t, slot) in slots.iter().enumerate() {
        for i in 0..width {
            keys[*slot as usize * width + i] = case.qkv[t * h.qkv_width() + h.k_offset() + i];
            values[*slot as usize * width + i] = case.qkv[t * h.qkv_width() + h.v_offset() + i];
        }
    }
    for device in devices() {
        let [bq, bk, bv] = [&case.qkv, &cache, &cache].map(|v| device.upload_new(v).unwrap());
        let bs = device.upload_new(&slots).unwrap();
        run(device, h, tokens, &bq, &bs, &bk, &bv).unwrap();
        assert_eq!(device.read::<f32>(&bk, cache.len()).unwrap(), keys, "{}", device.name());
        assert_eq!(device.read::<f32>(&bv, cache.len()).unwrap(), values, "{}", device.name());
    }
    let params = Params {
        tokens: tokens as u32,
        heads: h.heads as u32,
        kv_heads: h.kv_heads as u32,
        head_dim: h.head_dim as u32,
    };
    let (mut plain_keys, mut plain_values) = (cache.clone(), cache);
    reference(&params, &case.qkv, &slots, &mut plain_keys, &mut plain_values);
    assert_eq!((plain_keys, plain_values), (keys, values));
}
