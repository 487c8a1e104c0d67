//! Gradient of causal attention at the keys and values, on every device.

use efface::kernels::attention::Tiles;
use efface::kernels::attention::key_value_grad::{Params, reference, run};
use kernels_tests::{Random, assert_close_beside, devices};

use crate::{Case, SHAPES};

#[test]
fn matches_float64() {
    let mut random = Random::new("attention/key_value_grad");
    for shape in SHAPES {
        let case = Case::new(&mut random, shape);
        let Case { heads, scale, tokens, ref want, .. } = case;
        let [log_sums, row_dots] = [&want.log_sums, &want.row_dots].map(|v| Case::narrow(v));
        let [want_keys_values, sizes] = [&want.d_qkv, &want.d_qkv_sizes].map(|v| case.columns(v, false));
        // What lies in the queries' columns must stay.
        let before = random.values(want.d_qkv.len());
        for device in devices() {
            let [qkv, d_out, log_sums, row_dots, d_qkv] =
                [&case.qkv, &case.d_out, &log_sums, &row_dots, &before].map(|v| device.upload_new(v).unwrap());
            let buffer = device.upload_new(&case.tiles).unwrap();
            let tiles = Tiles::new(&buffer, &case.tiles);
            run(device, heads, scale, tokens, tiles, &qkv, &d_out, &log_sums, &row_dots, &d_qkv).unwrap();
            let what = format!("{heads:?} {:?} {}", case.tiles, device.name());
            let got = device.read::<f32>(&d_qkv, before.len()).unwrap();
            assert_close_beside(&what, &case.columns(&got, false), &want_keys_values, &sizes, 4e-7);
            assert_eq!(case.columns(&got, true), case.columns(&before, true), "{what}: queries");
        }
        let p = Params {
            heads: heads.heads as u32,
            kv_heads: heads.kv_heads as u32,
            head_dim: heads.head_dim as u32,
            scale,
        };
        let mut d_qkv = before.clone();
        reference(&p, &case.tiles, &case.qkv, &case.d_out, &log_sums, &row_dots, &mut d_qkv);
        assert_close_beside("reference", &case.columns(&d_qkv, false), &want_keys_values, &sizes, 4e-7);
    }
}
