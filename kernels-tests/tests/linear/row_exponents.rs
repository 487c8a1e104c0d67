//! Exponents of rows on every device: exactly those by the definition.

use efface::kernels::Window;
use efface::kernels::linear::row_exponents::{Params, reference, run};
use kernels_tests::{Random, devices};

use crate::rows_of_all_sizes;

/// The power of two that takes the largest magnitude of a row to at least 2^14 and below 2^15, at most 126.
fn definition(row: &[f32]) -> i32 {
    let largest = row.iter().fold(0.0f64, |largest, v| largest.max(f64::from(v.abs())));
    if largest == 0.0 { 126 } else { (14 - largest.log2().floor() as i32).min(126) }
}

#[test]
fn matches_the_definition() {
    let mut random = Random::new("linear/row_exponents");
    for width in [1, random.size(2, 127), random.size(128, 700)] {
        let (rows, stride) = (random.size(3, 40), width + 5);
        let mut x = rows_of_all_sizes(&mut random, rows, stride);
        // Powers of two and their neighbours, the smallest and the largest numbers.
        let edge = [1.0, 1.0f32.next_down(), -2.0, f32::MIN_POSITIVE, f32::MAX, 16384.0][random.size(0, 5)];
        x[2 * stride..3 * stride].fill(0.0);
        x[2 * stride + 3] = edge;
        let want: Vec<i32> = x.chunks(stride).map(|row| definition(&row[3..3 + width])).collect();
        for device in devices() {
            let bx = device.upload_new(&x).unwrap();
            let be = device.allocate(rows as u64 * 4).unwrap();
            run(device, rows, width, Window::at(&bx, stride, 3), &be).unwrap();
            assert_eq!(device.read::<i32>(&be, rows).unwrap(), want, "{} {rows} x {width}, {edge}", device.name());
        }
        let params = Params { rows: rows as u32, width: width as u32, stride: stride as u32, offset: 3 };
        let mut plain = vec![0; rows];
        reference(&params, &x, &mut plain);
        assert_eq!(plain, want);
    }
}
