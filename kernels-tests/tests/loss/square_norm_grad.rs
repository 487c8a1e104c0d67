//! Gradient of the squared norm at the logits on every device: against differences of the norm itself.

use efface::kernels::loss::square_norm_grad::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

#[test]
fn matches_differences_of_the_norm_and_is_zero_where_nothing_counts() {
    let mut random = Random::new("loss/square_norm_grad");
    let (tokens, width) = (random.size(2, 9), random.size(40, 900));
    let mut logits: Vec<f32> = random.values(tokens * width).iter().map(|v| 6.0 * v).collect();
    let mut weights = random.values(tokens);
    weights[0] = 0.0;
    // What does not count may be anything.
    logits[1] = f32::INFINITY;
    let norm = |row: &[f64]| row.iter().map(|l| l * l).sum::<f64>();
    let mut want = Vec::new();
    for (row, weight) in wide(&logits).chunks(width).zip(wide(&weights)) {
        for column in 0..width {
            let moved = |step: f64| {
                let mut row = row.to_vec();
                row[column] += step;
                norm(&row)
            };
            // Exact for a quadratic, but for rounding.
            want.push(if weight == 0.0 { 0.0 } else { weight * (moved(0.5) - moved(-0.5)) });
        }
    }
    for device in devices() {
        let [bw, bl] = [&weights, &logits].map(|v| device.upload_new(v).unwrap());
        run(device, tokens, width, &bw, &bl).unwrap();
        let got = device.read::<f32>(&bl, logits.len()).unwrap();
        assert!(got[..width].iter().all(|g| *g == 0.0), "{}", device.name());
        assert_close(&device.name(), &got, &want, 2e-7);
    }
    let mut plain = wide(&logits);
    reference(&Params { tokens: tokens as u32, width: width as u32 }, &wide(&weights), &mut plain);
    let plain: Vec<f32> = plain.iter().map(|v| *v as f32).collect();
    assert_close("reference", &plain, &want, 2e-7);
}
