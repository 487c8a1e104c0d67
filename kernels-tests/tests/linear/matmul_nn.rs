//! `Y = X W` on every device: all element types, both tiles, windows, accumulation, and splits that must not change bits.

use efface::Element;
use efface::kernels::linear::matmul_nn::{Params, reference, run};
use efface::kernels::{Matrix, Window};
use kernels_tests::{Random, assert_close, devices, variants, wide};

use crate::stored;

#[test]
fn matches_float64() {
    let mut random = Random::new("linear/matmul_nn");
    for element in Element::ALL {
        for (rows, columns) in [(random.size(1, 63), random.size(1, 90)), (random.size(64, 150), random.size(64, 150))]
        {
            for accumulate in [false, true] {
                let tokens = random.size(1, 130);
                let p = Params {
                    tokens: tokens as u32,
                    rows: rows as u32,
                    columns: columns as u32,
                    x_stride: (rows + 5) as u32,
                    x_offset: 3,
                    y_stride: (columns + 7) as u32,
                    y_offset: 2,
                    accumulate: u32::from(accumulate),
                };
                let x = random.values(tokens * (rows + 5));
                let y = random.values(tokens * (columns + 7));
                let (bytes, w) = stored(&mut random, element, rows * columns);
                let want = formula(&p, &wide(&x), &wide(&w), &wide(&y));
                for device in devices() {
                    let [bx, by] = [&x, &y].map(|v| device.upload_new(v).unwrap());
                    let bw = device.upload_new(&bytes).unwrap();
                    let matrix = Matrix { buffer: &bw, element, rows, columns };
                    run(
                        device,
                        tokens,
                        Window::at(&bx, rows + 5, 3),
                        matrix,
                        Window::at(&by, columns + 7, 2),
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
    let mut y = y.to_vec();
    let columns = p.columns as usize;
    for (y_row, x_row) in y.chunks_mut(p.y_stride as usize).zip(x.chunks(p.x_stride as usize)) {
        let y_row = &mut y_row[p.y_offset as usize..][..columns];
        if p.accumulate == 0 {
            y_row.fill(0.0);
        }
        for (x, w_row) in x_row[p.x_offset as usize..].iter().zip(w.chunks(columns)) {
            y_row.iter_mut().zip(w_row).for_each(|(y, w)| *y += x * w);
        }
    }
    y
}

/// On a GPU, slices of W's rows, one after the other, continue the sums from the stored values: the same bits as one
/// launch. Slices of its columns do not touch each other at all.
#[test]
fn slices_of_w_keep_the_bits() {
    let mut random = Random::new("linear/matmul_nn slices");
    let (tokens, rows, columns) = (random.size(1, 70), random.size(130, 200), random.size(64, 100));
    let x = random.values(tokens * rows);
    let (bytes, _) = stored(&mut random, Element::Bf16, rows * columns);
    let cut = 66;
    for device in devices().iter().filter(|d| !d.is_cpu()) {
        let bx = device.upload_new(&x).unwrap();
        let product = |slices: &[(usize, usize)]| {
            let by = device.allocate((tokens * columns * 4) as u64).unwrap();
            for &(from, to) in slices {
                let bw = device.upload_new(&bytes[from * columns * 2..to * columns * 2]).unwrap();
                let matrix = Matrix { buffer: &bw, element: Element::Bf16, rows: to - from, columns };
                run(device, tokens, Window::at(&bx, rows, from), matrix, Window::all(&by, columns), from > 0).unwrap();
            }
            device.read::<f32>(&by, tokens * columns).unwrap()
        };
        assert_eq!(product(&[(0, cut), (cut, rows)]), product(&[(0, rows)]), "{}", device.name());
    }
}

/// Which other tokens are in a launch changes no bits of a token's results: a memory budget, which decides that, must not
/// show in what comes out. (One token alone, as in decoding, is a product of a matrix and a vector on the CPU.)
#[test]
fn other_tokens_in_the_launch_change_no_bits() {
    let mut random = Random::new("linear/matmul_nn tokens");
    let (tokens, rows, columns) = (random.size(40, 90), random.size(64, 300), random.size(64, 300));
    let x = random.values(tokens * rows);
    for element in Element::ALL {
        let (bytes, _) = stored(&mut random, element, rows * columns);
        for device in devices() {
            let (bx, bw) = (device.upload_new(&x).unwrap(), device.upload_new(&bytes).unwrap());
            let matrix = Matrix { buffer: &bw, element, rows, columns };
            let product = |tokens: usize| {
                let by = device.allocate((tokens * columns * 4) as u64).unwrap();
                run(device, tokens, Window::all(&bx, rows), matrix, Window::all(&by, columns), false).unwrap();
                device.read::<f32>(&by, tokens * columns).unwrap()
            };
            let all = product(tokens);
            for some in [2, 3, random.size(4, 16), 17, random.size(18, tokens)] {
                assert_eq!(product(some), all[..some * columns], "{} {element:?} {some}", device.name());
            }
        }
    }
}

/// Every tile, with edges and without, in the middle of a batch and at its end, gives the same bits.
#[test]
fn all_tiles_give_the_same_bits() {
    let mut random = Random::new("linear/matmul_nn tiles");
    // Whole tiles of every size, and slices of whole depth; then the same numbers where no vector is whole.
    let (tokens, columns, rows) = (random.size(129, 140), 128, 16 * random.size(1, 3));
    let (x, y) = (random.values(tokens * rows), random.values(tokens * columns));
    let widen = |values: &[f32], width: usize| -> Vec<f32> {
        values.chunks(width).flat_map(|row| [&[7.0], row, &[7.0, 7.0]].concat()).collect()
    };
    for element in Element::ALL {
        let (bytes, w) = stored(&mut random, element, rows * columns);
        let p = Params {
            tokens: tokens as u32,
            rows: rows as u32,
            columns: columns as u32,
            x_stride: rows as u32,
            x_offset: 0,
            y_stride: columns as u32,
            y_offset: 0,
            accumulate: 1,
        };
        let want = formula(&p, &wide(&x), &wide(&w), &wide(&y));
        let mut first: Option<Vec<f32>> = None;
        // How an element is unpacked has nothing to do with the tile: of the narrow ones, one tile will do.
        let tiles = if element == Element::F32 { usize::MAX } else { 2 };
        for (name, device) in variants("linear/matmul_nn").into_iter().take(tiles) {
            let bw = device.upload_new(&bytes).unwrap();
            let matrix = Matrix { buffer: &bw, element, rows, columns };
            let [bx, by] = [&x, &y].map(|v| device.upload_new(v).unwrap());
            run(&device, tokens, Window::all(&bx, rows), matrix, Window::all(&by, columns), true).unwrap();
            let got = device.read::<f32>(&by, y.len()).unwrap();
            assert_close(&format!("{name} {element:?}"), &got, &want, 1e-6);
            if device.is_cpu() {
                continue;
            }
            let first = first.get_or_insert_with(|| got.clone());
            assert_eq!(*first, got, "{name} {element:?}");

            let (bx, by) =
                (device.upload_new(&widen(&x, rows)).unwrap(), device.upload_new(&widen(&y, columns)).unwrap());
            let (x_window, y_window) = (Window::at(&bx, rows + 3, 1), Window::at(&by, columns + 3, 1));
            run(&device, tokens, x_window, matrix, y_window, true).unwrap();
            let got = device.read::<f32>(&by, tokens * (columns + 3)).unwrap();
            assert_eq!(widen(first, columns), got, "{name} {element:?} with edges");
        }
    }
}
