//! Attention's gradient at the queries on every device, against differences of the formula in float64.

use efface::kernels::attention::query_grad::{Params, reference};
use efface::kernels::attention::tiles;
use kernels_tests::{Random, assert_close, devices, wide};

use crate::Case;

#[test]
fn matches_differences_in_float64() {
    let mut random = Random::new("attention/query_grad");
    for (longest, widest) in [(9, 7), (70, 2), (2, 70)] {
        let case = Case::new(&mut random, longest, widest);
        let columns = 0..case.heads.width();
        let want = case.gradient(columns.clone());
        for device in devices() {
            let on = case.run(device);
            let mut got = device.read::<f32>(&on.d_qkv, want.len()).unwrap();
            for (i, value) in got.iter_mut().enumerate() {
                if !columns.contains(&(i % case.heads.qkv_width())) {
                    *value = 0.0;
                }
            }
            let what = format!("{:?} {:?} on {}", case.heads, case.offsets, device.name());
            assert_close(&what, &got, &want, 5e-6);
        }
        let words = tiles(&case.offsets);
        let params = Params {
            heads: case.heads.heads as u32,
            kv_heads: case.heads.kv_heads as u32,
            head_dim: case.heads.head_dim as u32,
            tiles: (words.len() / 4) as u32,
            scale: case.scale,
        };
        let (qkv, d_out, tokens) = (wide(&case.qkv), wide(&case.d_out), case.tokens());
        let (out, log_sums) = case.attend(&qkv);
        let dim = case.heads.head_dim;
        let mut row_dots: Vec<f64> =
            out.chunks(dim).zip(d_out.chunks(dim)).map(|(o, d)| o.iter().zip(d).map(|(o, d)| o * d).sum()).collect();
        let mut plain = vec![0.0; qkv.len()];
        reference(&params, tokens, &words, &qkv, &out, &d_out, &log_sums, &mut row_dots, &mut plain);
        let narrow: Vec<f32> = plain.iter().map(|v| *v as f32).collect();
        assert_close("reference", &narrow, &want, 1e-6);
    }
}
