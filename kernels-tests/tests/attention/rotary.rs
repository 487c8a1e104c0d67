//! Rotary embedding on every device: against turning complex numbers, and its inverse undoes it.

use efface::kernels::Window;
use efface::kernels::attention::rotary::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

#[test]
fn turns_pairs_and_turns_them_back() {
    let mut random = Random::new("attention/rotary");
    let (tokens, heads, half) = (random.size(1, 30), random.size(1, 4), random.size(1, 20));
    let (offset, stride) = (2, 2 + heads * 2 * half + 1);
    let x = random.values(tokens * stride);
    let positions: Vec<u32> = (0..tokens).map(|_| random.size(0, 49) as u32).collect();
    let angles: Vec<f64> = (0..50 * half).map(|_| f64::from(3.0 * random.signed())).collect();
    let table: Vec<f32> = angles.iter().flat_map(|a| [a.cos() as f32, a.sin() as f32]).collect();
    let mut want = wide(&x);
    for t in 0..tokens {
        for head in 0..heads {
            for pair in 0..half {
                let angle = angles[positions[t] as usize * half + pair];
                let first = t * stride + offset + head * 2 * half + pair;
                // (a + ib) e^(i angle)
                let (a, b) = (f64::from(x[first]), f64::from(x[first + half]));
                let (length, direction) = (a.hypot(b), b.atan2(a) + angle);
                (want[first], want[first + half]) = (length * direction.cos(), length * direction.sin());
            }
        }
    }
    for device in devices() {
        let (bx, bt) = (device.upload_new(&x).unwrap(), device.upload_new(&table).unwrap());
        let bp = device.upload_new(&positions).unwrap();
        let window = Window::at(&bx, stride, offset);
        run(device, tokens, heads, 2 * half, &bt, &bp, window, false).unwrap();
        assert_close(&device.name(), &device.read::<f32>(&bx, x.len()).unwrap(), &want, 1e-6);
        run(device, tokens, heads, 2 * half, &bt, &bp, window, true).unwrap();
        assert_close("and back", &device.read::<f32>(&bx, x.len()).unwrap(), &wide(&x), 1e-6);
    }
    let params = Params {
        pairs: (tokens * heads * half) as u32,
        heads: heads as u32,
        half_dim: half as u32,
        stride: stride as u32,
        offset: offset as u32,
        inverse: 0,
    };
    let mut plain = x.clone();
    reference(&params, &table, &positions, &mut plain);
    assert_close("reference", &plain, &want, 1e-6);
}
