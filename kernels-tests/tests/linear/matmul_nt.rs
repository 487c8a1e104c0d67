//! `Y = X Wᵀ` on every device: all element types, both tiles, windows, accumulation, and splits that must not change bits.

use efface::Element;
use efface::kernels::linear::matmul_nt::{Params, reference, run};
use efface::kernels::{Matrix, Window};
use kernels_tests::{Random, assert_close, devices, variants, wide};

use crate::stored;

#[test]
fn matches_float64() {
    let mut random = Random::new("linear/matmul_nt");
    for element in Element::ALL {
        for (rows, columns) in [(random.size(1, 63), random.size(1, 90)), (random.size(64, 150), random.size(64, 150))]
        {
            for accumulate in [false, true] {
                let tokens = random.size(1, 130);
                let p = Params {
                    tokens: tokens as u32,
                    rows: rows as u32,
                    columns: columns as u32,
                    x_stride: (columns + 5) as u32,
                    x_offset: 3,
                    y_stride: (rows + 7) as u32,
                    y_offset: 2,
                    accumulate: u32::from(accumulate),
                };
                let x = random.values(tokens * (columns + 5));
                let y = random.values(tokens * (rows + 7));
                let (bytes, w) = stored(&mut random, element, rows * columns);
                let want = formula(&p, &wide(&x), &wide(&w), &wide(&y));
                for device in devices() {
                    let [bx, by] = [&x, &y].map(|v| device.upload_new(v).unwrap());
                    let bw = device.upload_new(&bytes).unwrap();
                    let matrix = Matrix { buffer: &bw, element, rows, columns };
                    run(
                        device,
                        tokens,
                        Window::at(&bx, columns + 5, 3),
                        matrix,
                        Window::at(&by, rows + 7, 2),
                        accumulate,
                    )
                    .unwrap();
                    let got = device.read::<f32>(&by, y.len()).unwrap();
                    assert_close(&format!("{} {p:?} {element:?}", device.name()), &got, &want, 1e-6);
                }
                let mut plain = y.clone();
                reference(&p, &x, &w, &mut plain);
                assert_close("reference", &plain, &want, 1e-6);
            }
        }
    }
}

/// The formula, written apart from the kernel: every number of Y, those outside of the window unchanged.
fn formula(p: &Params, x: &[f64], w: &[f64], y: &[f64]) -> Vec<f64> {
    let stride = p.y_stride as usize;
    let window = p.y_offset as usize..(p.y_offset + p.rows) as usize;
    let value = |i: usize| {
        let (t, column) = (i / stride, i % stride);
        if !window.contains(&column) {
            return y[i];
        }
        let x_row = &x[t * p.x_stride as usize + p.x_offset as usize..];
        let w_row = &w[(column - window.start) * p.columns as usize..];
        let product: f64 = x_row.iter().zip(w_row).take(p.columns as usize).map(|(x, w)| x * w).sum();
        product + if p.accumulate == 1 { y[i] } else { 0.0 }
    };
    (0..y.len()).map(value).collect()
}

/// On a GPU, a sum that is split over two launches continues from the stored value: the same bits as one launch.
#[test]
fn a_split_over_columns_keeps_the_bits() {
    let mut random = Random::new("linear/matmul_nt split");
    let (tokens, rows, columns) = (random.size(1, 70), random.size(64, 100), random.size(130, 200));
    let cut = 64;
    let x = random.values(tokens * columns);
    let w = random.values(rows * columns);
    for device in devices().iter().filter(|d| !d.is_cpu()) {
        let bx = device.upload_new(&x).unwrap();
        let whole = {
            let (bw, by) = (device.upload_new(&w).unwrap(), device.allocate((tokens * rows * 4) as u64).unwrap());
            let matrix = Matrix { buffer: &bw, element: Element::F32, rows, columns };
            run(device, tokens, Window::all(&bx, columns), matrix, Window::all(&by, rows), false).unwrap();
            device.read::<f32>(&by, tokens * rows).unwrap()
        };
        let by = device.allocate((tokens * rows * 4) as u64).unwrap();
        for (from, to) in [(0, cut), (cut, columns)] {
            let part: Vec<f32> = (0..rows).flat_map(|r| w[r * columns + from..r * columns + to].to_vec()).collect();
            let bw = device.upload_new(&part).unwrap();
            let matrix = Matrix { buffer: &bw, element: Element::F32, rows, columns: to - from };
            run(device, tokens, Window::at(&bx, columns, from), matrix, Window::all(&by, rows), from > 0).unwrap();
        }
        assert_eq!(device.read::<f32>(&by, tokens * rows).unwrap(), whole, "{}", device.name());
    }
}

/// Which other tokens are in a launch changes no bits of a token's results: a memory budget, which decides that, must not
/// show in what comes out. (One token alone, as in decoding, is a product of a matrix and a vector on the CPU.)
#[test]
fn other_tokens_in_the_launch_change_no_bits() {
    let mut random = Random::new("linear/matmul_nt tokens");
    let (tokens, rows, columns) = (random.size(40, 90), random.size(64, 300), random.size(64, 300));
    let x = random.values(tokens * columns);
    for element in Element::ALL {
        let (bytes, _) = stored(&mut random, element, rows * columns);
        for device in devices() {
            let (bx, bw) = (device.upload_new(&x).unwrap(), device.upload_new(&bytes).unwrap());
            let matrix = Matrix { buffer: &bw, element, rows, columns };
            let product = |tokens: usize| {
                let by = device.allocate((tokens * rows * 4) as u64).unwrap();
                run(device, tokens, Window::all(&bx, columns), matrix, Window::all(&by, rows), false).unwrap();
                device.read::<f32>(&by, tokens * rows).unwrap()
            };
            let all = product(tokens);
            for some in [2, 3, random.size(4, 16), 17, random.size(18, tokens)] {
                assert_eq!(product(some), all[..some * rows], "{} {element:?} {some}", device.name());
            }
        }
    }
}

/// Every tile, with edges and without, in the middle of a batch and at its end, gives the same bits.
#[test]
fn all_tiles_give_the_same_bits() {
    let mut random = Random::new("linear/matmul_nt tiles");
    // Whole tiles of every size, and slices of whole depth; then the same numbers where no vector is whole.
    let (tokens, rows, columns) = (random.size(129, 140), 128, 16 * random.size(1, 3));
    let (x, y) = (random.values(tokens * columns), random.values(tokens * rows));
    let widen = |values: &[f32], width: usize| -> Vec<f32> {
        values.chunks(width).flat_map(|row| [&[7.0], row, &[7.0, 7.0]].concat()).collect()
    };
    for element in Element::ALL {
        let (bytes, w) = stored(&mut random, element, rows * columns);
        let p = Params {
            tokens: tokens as u32,
            rows: rows as u32,
            columns: columns as u32,
            x_stride: columns as u32,
            x_offset: 0,
            y_stride: rows as u32,
            y_offset: 0,
            accumulate: 1,
        };
        let want = formula(&p, &wide(&x), &wide(&w), &wide(&y));
        let mut first: Option<Vec<f32>> = None;
        // How an element is unpacked has nothing to do with the tile: of the narrow ones, one tile will do.
        let tiles = if element == Element::F32 { usize::MAX } else { 2 };
        for (name, device) in variants("linear/matmul_nt").into_iter().take(tiles) {
            let bw = device.upload_new(&bytes).unwrap();
            let matrix = Matrix { buffer: &bw, element, rows, columns };
            let [bx, by] = [&x, &y].map(|v| device.upload_new(v).unwrap());
            run(&device, tokens, Window::all(&bx, columns), matrix, Window::all(&by, rows), true).unwrap();
            let got = device.read::<f32>(&by, y.len()).unwrap();
            assert_close(&format!("{name} {element:?}"), &got, &want, 1e-6);
            if device.is_cpu() {
                continue;
            }
            let first = first.get_or_insert_with(|| got.clone());
            assert_eq!(*first, got, "{name} {element:?}");

            let (bx, by) =
                (device.upload_new(&widen(&x, columns)).unwrap(), device.upload_new(&widen(&y, rows)).unwrap());
            let (x_window, y_window) = (Window::at(&bx, columns + 3, 1), Window::at(&by, rows + 3, 1));
            run(&device, tokens, x_window, matrix, y_window, true).unwrap();
            let got = device.read::<f32>(&by, tokens * (rows + 3)).unwrap();
            assert_eq!(widen(first, rows), got, "{name} {element:?} with edges");
        }
    }
}
