//! `Y = X W` in mixed precision on every device and unit: against float64 products of rounded factors, against exact ones,
//! and splits that must not change bits.

use efface::Element;
use efface::kernels::linear::mixed_nn::{params, reference, run};
use efface::kernels::{Matrix, Window};
use kernels_tests::{Random, assert_close, devices};

use crate::{dense, eleven_digits, rows_of_all_sizes, stored, units};

/// The rows of a window, each divided by its row's size, so that all count alike.
fn leveled(values: &[f32], stride: usize, pad: usize, sizes: &[f64]) -> Vec<f32> {
    let level =
        |(row, size): (&[f32], &f64)| row[pad..].iter().map(|v| (f64::from(*v) / size) as f32).collect::<Vec<_>>();
    values.chunks(stride).zip(sizes).flat_map(level).collect()
}

#[test]
fn matches_float64() {
    let mut random = Random::new("linear/mixed_nn");
    for element in Element::ALL {
        // With edges, and of whole tiles of every unit.
        let with_edges = (random.size(2, 70), random.size(64, 100), random.size(64, 100), 3);
        for (tokens, rows, columns, pad) in [with_edges, (random.size(129, 140), 128, 128, 0)] {
            let (x_stride, y_stride) = (rows + pad, columns + pad);
            let x = rows_of_all_sizes(&mut random, tokens, x_stride);
            let (bytes, w) = stored(&mut random, element, rows * columns);
            let factors = dense(&x, x_stride, pad, rows);
            let largest = |row: &Vec<f64>| row.iter().fold(0.0f64, |most, v| most.max(v.abs()));
            let sizes: Vec<f64> =
                factors.iter().map(|row| if largest(row) > 0.0 { largest(row) } else { 1.0 }).collect();
            let product = |number: &dyn Fn(f64) -> f64| -> Vec<f64> {
                let w: Vec<f64> = w.iter().map(|w| number(f64::from(*w))).collect();
                let mut y = Vec::new();
                for (row, size) in factors.iter().zip(&sizes) {
                    let row: Vec<f64> = row.iter().map(|x| number(*x)).collect();
                    let of = |o: usize| (0..rows).map(|i| row[i] * w[i * columns + o]).sum::<f64>();
                    y.extend((0..columns).map(|o| of(o) / size));
                }
                y
            };
            let (rounded, exact) = (product(&eleven_digits), product(&|value| value));
            for device in devices() {
                for unit in units(device) {
                    let name = format!("{} {unit:?} {element:?} {tokens} {rows} {columns}", device.name());
                    let (bx, bw) = (device.upload_new(&x).unwrap(), device.upload_new(&bytes).unwrap());
                    let by = device.allocate((tokens * y_stride * 4) as u64).unwrap();
                    let matrix = Matrix { buffer: &bw, element, rows, columns };
                    let (wx, wy) = (Window::at(&bx, x_stride, pad), Window::at(&by, y_stride, pad));
                    run(device, unit, tokens, wx, matrix, wy, false).unwrap();
                    let got = device.read::<f32>(&by, tokens * y_stride).unwrap();
                    let level = leveled(&got, y_stride, pad, &sizes);
                    assert_close(&format!("{name}, rounded"), &level, &rounded, 2e-6);
                    assert_close(&format!("{name}, exact"), &level, &exact, 1e-3);
                    if device.is_cpu() {
                        continue;
                    }
                    // Added to what is there: twice the product, exactly.
                    run(device, unit, tokens, wx, matrix, wy, true).unwrap();
                    let twice: Vec<f32> = got.iter().map(|v| 2.0 * v).collect();
                    assert_eq!(device.read::<f32>(&by, twice.len()).unwrap(), twice, "{name}");
                }
            }
            let b = devices()[0].upload_new(&[0.0f32]).unwrap();
            let matrix = Matrix { buffer: &b, element, rows, columns };
            let (wx, wy) = (Window::at(&b, x_stride, pad), Window::at(&b, y_stride, pad));
            let params = params(tokens, wx, matrix, wy, false).unwrap();
            let exponents: Vec<i32> = sizes.iter().map(|size| 14 - size.log2().floor() as i32).collect();
            let mut plain = vec![0.0; tokens * y_stride];
            reference(&params, &x, &w, &mut plain, &exponents);
            assert_close("reference", &leveled(&plain, y_stride, pad, &sizes), &rounded, 2e-6);
        }
    }
}

/// Which other tokens are in a launch changes no bits of a token's results.
#[test]
fn other_tokens_in_the_launch_change_no_bits() {
    let mut random = Random::new("linear/mixed_nn tokens");
    let (tokens, rows, columns) = (random.size(40, 90), random.size(64, 130), random.size(64, 130));
    let x = rows_of_all_sizes(&mut random, tokens, rows);
    let (bytes, _) = stored(&mut random, Element::Bf16, rows * columns);
    for device in devices() {
        let (bx, bw) = (device.upload_new(&x).unwrap(), device.upload_new(&bytes).unwrap());
        let matrix = Matrix { buffer: &bw, element: Element::Bf16, rows, columns };
        for unit in units(device) {
            let product = |tokens: usize| {
                let by = device.allocate((tokens * columns * 4) as u64).unwrap();
                let (wx, wy) = (Window::all(&bx, rows), Window::all(&by, columns));
                run(device, unit, tokens, wx, matrix, wy, false).unwrap();
                device.read::<f32>(&by, tokens * columns).unwrap()
            };
            let all = product(tokens);
            for some in [2, random.size(4, 16), random.size(18, tokens)] {
                assert_eq!(product(some), all[..some * columns], "{} {unit:?} {some}", device.name());
            }
        }
    }
}
