//! Rotary embedding on every device: as a complex rotation, there and back.

use efface::kernels::Window;
use efface::kernels::attention::rotary::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, wide};

#[test]
fn matches_float64_and_turns_back() {
    let mut random = Random::new("attention/rotary");
    for (heads, pairs) in [(1, 1), (random.size(2, 5), random.size(2, 40))] {
        let (tokens, places, head_dim) = (random.size(1, 50), random.size(1, 60), 2 * pairs);
        let stride = heads * head_dim + 7;
        let angles: Vec<f32> = random.values(places * pairs).iter().map(|v| 3.0 * v).collect();
        let table: Vec<f32> = angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect();
        let positions: Vec<u32> = (0..tokens).map(|_| random.size(0, places - 1) as u32).collect();
        let x = random.values(tokens * stride);
        for inverse in [false, true] {
            let sign = if inverse { -1.0 } else { 1.0 };
            let mut want = wide(&x);
            for t in 0..tokens {
                for n in 0..heads * pairs {
                    // (a + i b) e^(i angle) in the table's own rounding of cos and sin.
                    let (head, pair) = (n / pairs, n % pairs);
                    let place = (positions[t] as usize * pairs + pair) * 2;
                    let (cosine, sine) = (f64::from(table[place]), sign * f64::from(table[place + 1]));
                    let real = t * stride + 4 + head * head_dim + pair;
                    let (a, b) = (f64::from(x[real]), f64::from(x[real + pairs]));
                    (want[real], want[real + pairs]) = (a * cosine - b * sine, a * sine + b * cosine);
                }
            }
            for device in devices() {
                let [bx, btable] = [&x, &table].map(|v| device.upload_new(v).unwrap());
                let bpositions = device.upload_new(&positions).unwrap();
                let window = Window::at(&bx, stride, 4);
                run(device, tokens, heads, head_dim, &btable, &bpositions, window, inverse).unwrap();
                assert_close(&device.name(), &device.read::<f32>(&bx, x.len()).unwrap(), &want, 3e-7);
                run(device, tokens, heads, head_dim, &btable, &bpositions, window, !inverse).unwrap();
                let back = device.read::<f32>(&bx, x.len()).unwrap();
                assert_close(&format!("{} and back", device.name()), &back, &wide(&x), 3e-7);
            }
            let p = Params {
                tokens: tokens as u32,
                heads: heads as u32,
                head_dim: head_dim as u32,
                x_stride: stride as u32,
                x_offset: 4,
                inverse: u32::from(inverse),
            };
            let mut plain = x.clone();
            reference(&p, &table, &positions, &mut plain);
            assert_close("reference", &plain, &want, 3e-7);
        }
    }
}

#[test]
fn odd_heads_are_refused() {
    let device = &devices()[0];
    let [table, positions, x] = [(); 3].map(|()| device.allocate(64).unwrap());
    let error = run(device, 1, 1, 7, &table, &positions, Window::all(&x, 7), false).unwrap_err();
    assert!(error.to_string().contains("odd"), "{error}");
}
