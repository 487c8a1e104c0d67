//! `G = leftᵀ right` over one unit's tokens on every device: both tiles, windows, units within a batch.

use efface::kernels::Window;
use efface::kernels::linear::weight_grads::{Params, reference, run};
use kernels_tests::{Random, assert_close, devices, variants};

use crate::{dense, gradient};

/// Down to a single element, judged together: alone, a sum that cancels has next to no size to compare its error with.
#[test]
fn narrow_matrices_match_float64() {
    let mut random = Random::new("linear/weight_grads narrow");
    let (mut want, mut got) = (Vec::new(), vec![Vec::new(); devices().len()]);
    for _ in 0..80 {
        let (rows, columns, tokens) = (random.size(1, 8), random.size(1, 8), random.size(1, 60));
        let (left, right) = (random.values(tokens * rows), random.values(tokens * columns));
        want.extend(gradient(0, tokens, &dense(&left, rows, 0, rows), &dense(&right, columns, 0, columns)));
        for (got, device) in got.iter_mut().zip(devices()) {
            let [bl, br] = [&left, &right].map(|values| device.upload_new(values).unwrap());
            let bg = device.allocate((rows * columns * 4) as u64).unwrap();
            let (wl, wr) = (Window::at(&bl, rows, 0), Window::at(&br, columns, 0));
            run(device, 0..tokens, wl, wr, rows, columns, &bg).unwrap();
            got.extend(device.read::<f32>(&bg, rows * columns).unwrap());
        }
    }
    for (got, device) in got.iter().zip(devices()) {
        assert_close(&device.name(), got, &want, 1e-6);
    }
}

#[test]
fn matches_float64() {
    let mut random = Random::new("linear/weight_grads");
    for (rows, columns) in [(random.size(1, 63), random.size(20, 150)), (random.size(64, 150), random.size(64, 150))] {
        for length in [1, 16, random.size(2, 70)] {
            let begin = random.size(0, 20);
            let tokens = begin + length + random.size(0, 9);
            let (left_stride, right_stride) = (rows + 3, columns + 8);
            let p = Params {
                begin: begin as u32,
                end: (begin + length) as u32,
                rows: rows as u32,
                columns: columns as u32,
                left_stride: left_stride as u32,
                left_offset: 2,
                right_stride: right_stride as u32,
                right_offset: 5,
            };
            let left = random.values(tokens * left_stride);
            let right = random.values(tokens * right_stride);
            let old = random.values(rows * columns);
            let want = gradient(
                begin,
                begin + length,
                &dense(&left, left_stride, 2, rows),
                &dense(&right, right_stride, 5, columns),
            );
            for device in devices() {
                let [bl, br, bg] = [&left, &right, &old].map(|v| device.upload_new(v).unwrap());
                let (wl, wr) = (Window::at(&bl, left_stride, 2), Window::at(&br, right_stride, 5));
                run(device, begin..begin + length, wl, wr, rows, columns, &bg).unwrap();
                let got = device.read::<f32>(&bg, rows * columns).unwrap();
                assert_close(&format!("{} {p:?}", device.name()), &got, &want, 1e-6);
            }
            let mut plain = old.clone();
            reference(&p, &left, &right, &mut plain);
            assert_close("reference", &plain, &want, 1e-6);
        }
    }
}

#[test]
fn a_unit_without_tokens_has_a_gradient_of_zero() {
    let mut random = Random::new("linear/weight_grads empty");
    let (rows, columns) = (random.size(1, 80), random.size(1, 80));
    let (left, right) = (random.values(rows), random.values(columns));
    for device in devices() {
        let [bl, br] = [&left, &right].map(|v| device.upload_new(v).unwrap());
        let bg = device.upload_new(&random.values(rows * columns)).unwrap();
        run(device, 1..1, Window::all(&bl, rows), Window::all(&br, columns), rows, columns, &bg).unwrap();
        let got = device.read::<f32>(&bg, rows * columns).unwrap();
        assert!(got.iter().all(|g| *g == 0.0), "{}", device.name());
    }
}

/// Every tile, with edges and without, gives the same bits.
#[test]
fn all_tiles_give_the_same_bits() {
    let mut random = Random::new("linear/weight_grads tiles");
    let (rows, columns, tokens) = (128, 128, random.size(20, 60));
    let [left, right] = [rows, columns].map(|width| random.values(tokens * width));
    let pad = |values: &[f32], width: usize| -> Vec<f32> {
        values.chunks(width).flat_map(|row| [&[7.0], row].concat()).collect()
    };
    let want = gradient(1, tokens, &dense(&left, rows, 0, rows), &dense(&right, columns, 0, columns));
    let mut first: Option<Vec<f32>> = None;
    for (name, device) in variants("linear/weight_grads") {
        let on = |left: &[f32], right: &[f32], before: usize| {
            let [bl, br] = [left, right].map(|v| device.upload_new(v).unwrap());
            let bg = device.allocate((rows * columns * 4) as u64).unwrap();
            let (l, r) = (Window::at(&bl, rows + before, before), Window::at(&br, columns + before, before));
            run(&device, 1..tokens, l, r, rows, columns, &bg).unwrap();
            device.read::<f32>(&bg, rows * columns).unwrap()
        };
        let got = on(&left, &right, 0);
        assert_close(&name, &got, &want, 1e-6);
        assert_eq!(on(&pad(&left, rows), &pad(&right, columns), 1), got, "{name} with edges");
        if !device.is_cpu() {
            assert_eq!(*first.get_or_insert_with(|| got.clone()), got, "{name}");
        }
    }
}
