//! Causal attention on every device: several samples, grouped heads, odd widths, more keys than a block.

use efface::kernels::attention::forward::{Params, reference};
use efface::kernels::attention::tiles;
use kernels_tests::{Random, assert_close, devices, wide};

use crate::Case;

#[test]
fn matches_float64() {
    let mut random = Random::new("attention/forward");
    for (longest, widest) in [(150, 20), (20, 150), (3, 256)] {
        let case = Case::new(&mut random, longest, widest);
        let (out, log_sums) = case.attend(&wide(&case.qkv));
        for device in devices() {
            let run = case.run(device);
            let what = format!("{:?} {:?} on {}", case.heads, case.offsets, device.name());
            assert_close(&what, &device.read::<f32>(&run.out, out.len()).unwrap(), &out, 2e-6);
            assert_close(&what, &device.read::<f32>(&run.log_sums, log_sums.len()).unwrap(), &log_sums, 2e-6);
        }
        let words = tiles(&case.offsets);
        let params = Params {
            heads: case.heads.heads as u32,
            kv_heads: case.heads.kv_heads as u32,
            head_dim: case.heads.head_dim as u32,
            tiles: (words.len() / 4) as u32,
            scale: case.scale,
        };
        let (mut plain, mut sums) = (vec![0.0; out.len()], vec![0.0; log_sums.len()]);
        reference(&params, case.tokens(), &words, &case.qkv, &mut plain, &mut sums);
        assert_close("reference", &plain, &out, 2e-6);
        assert_close("reference's log sums", &sums, &log_sums, 2e-6);
    }
}
