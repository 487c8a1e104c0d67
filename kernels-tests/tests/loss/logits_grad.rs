//! Gradient of cross-entropy at the logits on every device.

use efface::kernels::loss::NO_TARGET;
use efface::kernels::loss::logits_grad::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

#[test]
fn matches_float64_and_is_zero_without_a_target() {
    let mut random = Random::new("loss/logits_grad");
    let (tokens, vocabulary, first) = (random.size(2, 9), random.size(40, 900), 13);
    let all: Vec<f32> = random.values(tokens * vocabulary).iter().map(|v| 6.0 * v).collect();
    let mut targets: Vec<u32> = (0..tokens).map(|_| random.size(0, vocabulary - 1) as u32).collect();
    let mut weights = random.values(tokens);
    (targets[0], weights[0]) = (NO_TARGET, 0.0);
    let (mut state, mut want, mut part) = (Vec::new(), Vec::new(), Vec::new());
    for ((row, target), weight) in all.chunks(vocabulary).zip(&targets).zip(&weights) {
        let sum: f64 = wide(row).iter().map(|l| l.exp()).sum();
        // The state may have any maximum: here the first logit's.
        state.extend([row[0], (sum / f64::from(row[0]).exp()) as f32, 0.0]);
        part.extend(&row[first..]);
        for (column, logit) in wide(row).iter().enumerate().skip(first) {
            let wanted = if column == *target as usize { 1.0 } else { 0.0 };
            want.push(f64::from(*weight) * (logit.exp() / sum - wanted));
        }
    }
    let width = vocabulary - first;
    for device in devices() {
        let bt = device.upload_new(&targets).unwrap();
        let [bw, bs, bl] = [&weights, &state, &part].map(|v| device.upload_new(v).unwrap());
        run(device, tokens, width, first, &bt, &bw, &bs, &bl).unwrap();
        let got = device.read::<f32>(&bl, part.len()).unwrap();
        assert!(got[..width].iter().all(|g| *g == 0.0));
        assert_close(&device.name(), &got, &want, 2e-6);
    }
    let params = Params { tokens: tokens as u32, width: width as u32, first_column: first as u32 };
    reference(&params, &targets, &weights, &state, &mut part);
    assert_close("reference", &part, &want, 2e-6);
}
