//! Keys and values land in their rows of the cache, on every device, and nothing else changes.

use efface::kernels::attention::Heads;
use efface::kernels::attention::cache_append::run;
use kernels_tests::{Random, devices};

#[test]
fn rows_land_in_their_slots() {
    let mut random = Random::new("attention/cache_append");
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: random.size(1, 90) };
    let (tokens, rows, width) = (random.size(1, 20), random.size(40, 50), 2 * heads.head_dim);
    let qkv = random.values(tokens * 4 * width);
    let [keys, values] = [(); 2].map(|()| random.values(rows * width));
    // Every other row, from the last down.
    let slots: Vec<u32> = (0..tokens).map(|t| (rows - 1 - 2 * t) as u32).collect();
    let (mut want_keys, mut want_values) = (keys.clone(), values.clone());
    for (t, row) in qkv.chunks(4 * width).enumerate() {
        for c in 0..width {
            want_keys[slots[t] as usize * width + c] = row[2 * width + c];
            want_values[slots[t] as usize * width + c] = row[3 * width + c];
        }
    }
    for device in devices() {
        let [bqkv, bkeys, bvalues] = [&qkv, &keys, &values].map(|v| device.upload_new(v).unwrap());
        let bslots = device.upload_new(&slots).unwrap();
        run(device, heads, tokens, &bqkv, &bslots, &bkeys, &bvalues).unwrap();
        assert_eq!(device.read::<f32>(&bkeys, keys.len()).unwrap(), want_keys, "{}", device.name());
        assert_eq!(device.read::<f32>(&bvalues, values.len()).unwrap(), want_values, "{}", device.name());
    }
}
