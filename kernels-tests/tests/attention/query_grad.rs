//! Gradient of causal attention at the queries, on every device.

use efface::kernels::attention::Tiles;
use efface::kernels::attention::query_grad::{Params, reference, run};
use kernels_tests::{Random, assert_close, assert_close_beside, devices};

use crate::{Case, SHAPES};

#[test]
fn matches_float64() {
    let mut random = Random::new("attention/query_grad");
    for shape in SHAPES {
        let case = Case::new(&mut random, shape);
        let Case { heads, scale, tokens, ref want, .. } = case;
        let [out, log_sums] = [&want.out, &want.log_sums].map(|v| Case::narrow(v));
        let [want_queries, sizes] = [&want.d_qkv, &want.d_qkv_sizes].map(|v| case.columns(v, true));
        // What lies in the other columns must stay.
        let before = random.values(want.d_qkv.len());
        for device in devices() {
            let [qkv, out, d_out, log_sums, d_qkv] =
                [&case.qkv, &out, &case.d_out, &log_sums, &before].map(|v| device.upload_new(v).unwrap());
            let row_dots = device.allocate((want.row_dots.len() * 4) as u64).unwrap();
            let buffer = device.upload_new(&case.tiles).unwrap();
            let tiles = Tiles::new(&buffer, &case.tiles);
            run(device, heads, scale, tokens, tiles, &qkv, &out, &d_out, &log_sums, &row_dots, &d_qkv).unwrap();
            let what = format!("{heads:?} {:?} {}", case.tiles, device.name());
            let got = device.read::<f32>(&d_qkv, before.len()).unwrap();
            assert_close_beside(&what, &case.columns(&got, true), &want_queries, &sizes, 4e-7);
            assert_eq!(case.columns(&got, false), case.columns(&before, false), "{what}: keys and values");
            let got = device.read::<f32>(&row_dots, want.row_dots.len()).unwrap();
            assert_close(&format!("row dots of {what}"), &got, &want.row_dots, 1e-6);
        }
        let p = Params {
            heads: heads.heads as u32,
            kv_heads: heads.kv_heads as u32,
            head_dim: heads.head_dim as u32,
            scale,
        };
        let (mut d_qkv, mut row_dots) = (before.clone(), vec![0.0; want.row_dots.len()]);
        reference(&p, &case.tiles, &case.qkv, &out, &case.d_out, &log_sums, &mut row_dots, &mut d_qkv);
        assert_close_beside("reference", &case.columns(&d_qkv, true), &want_queries, &sizes, 4e-7);
        assert_close("reference, row dots", &row_dots, &want.row_dots, 1e-6);
    }
}
