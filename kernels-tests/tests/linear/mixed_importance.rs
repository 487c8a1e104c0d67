//! Importance in mixed precision on every device and unit: against float64 gradients of rounded factors, against exact ones, for
//! units far beyond the range of half precision, and splits that must not change bits.

use efface::device::Device;
use efface::kernels::linear::mixed_importance::{params, reference, run};
use efface::kernels::precision::Unit;
use efface::kernels::{Accumulate, Segments, Window};
use kernels_tests::{Random, assert_close, devices};

use crate::{dense, eleven_digits, gradient, units};

/// Ragged units of windows into two activations. A unit's rows differ in size, but not so much that half precision would not
/// hold them all; units differ by up to 2^`spread`.
struct Batch {
    rows: usize,
    columns: usize,
    pad: usize,
    offsets: Vec<u32>,
    left: Vec<f32>,
    right: Vec<f32>,
    /// How large each unit's gradient is.
    sizes: Vec<f64>,
}

impl Batch {
    fn new(random: &mut Random, rows: usize, columns: usize, pad: usize, offsets: Vec<u32>, spread: usize) -> Self {
        let tokens = *offsets.last().unwrap() as usize;
        let mut left = random.values(tokens * (rows + pad));
        let mut right = random.values(tokens * (columns + pad));
        let mut sizes = Vec::new();
        for unit in offsets.windows(2) {
            let [l, r] = [0, 0].map(|_| random.size(0, spread) as i32 - spread as i32 * 3 / 4);
            for t in unit[0] as usize..unit[1] as usize {
                let less = random.size(0, 8) as i32;
                left[t * (rows + pad)..][..rows + pad].iter_mut().for_each(|v| *v *= 2f32.powi(l - less));
                right[t * (columns + pad)..][..columns + pad].iter_mut().for_each(|v| *v *= 2f32.powi(r));
            }
            sizes.push(2f64.powi(l + r));
        }
        Batch { rows, columns, pad, left, right, sizes, offsets }
    }

    fn on(&self, device: &Device, unit: Unit, how: Accumulate, of: std::ops::Range<usize>, start: &[f32]) -> Vec<f32> {
        let [bl, br] = [&self.left, &self.right].map(|v| device.upload_new(v).unwrap());
        let bf = device.upload_new(start).unwrap();
        let offsets = &self.offsets[of.start..=of.end];
        let bo = device.upload_new(offsets).unwrap();
        let left = Window::at(&bl, self.rows + self.pad, self.pad);
        let right = Window::at(&br, self.columns + self.pad, self.pad);
        let segments = Segments::new(&bo, offsets);
        run(device, unit, how, segments, left, right, self.rows, self.columns, &bf).unwrap();
        device.read(&bf, self.rows * self.columns).unwrap()
    }

    /// A unit's gradient in float64, of factors after `number`.
    fn gradient(&self, n: usize, number: &dyn Fn(f64) -> f64) -> Vec<f64> {
        let of = |values: &[f32], width: usize| -> Vec<Vec<f64>> {
            let rows = dense(values, width + self.pad, self.pad, width);
            rows.into_iter().map(|row| row.into_iter().map(number).collect()).collect()
        };
        let (left, right) = (of(&self.left, self.rows), of(&self.right, self.columns));
        gradient(self.offsets[n] as usize, self.offsets[n + 1] as usize, &left, &right)
    }

    /// The importance in float64, of factors after `number`.
    fn formula(&self, how: Accumulate, start: &[f32], number: &dyn Fn(f64) -> f64) -> Vec<f64> {
        let mut f: Vec<f64> = start.iter().map(|f| f64::from(*f)).collect();
        for n in 0..self.sizes.len() {
            f.iter_mut().zip(self.gradient(n, number)).for_each(|(f, g)| match how {
                Accumulate::Square => *f += g.powi(2),
                Accumulate::Magnitude => *f += g.max(-g),
                Accumulate::Sum => *f += g,
            });
        }
        f
    }
}

#[test]
fn matches_float64() {
    let mut random = Random::new("linear/mixed_importance");
    for how in Accumulate::ALL {
        // With edges, and of whole tiles of every unit; units shorter than a fragment, as long, and longer.
        for (rows, columns, pad) in [(random.size(64, 90), random.size(64, 90), 3), (128, 128, 0)] {
            let batch = Batch::new(&mut random, rows, columns, pad, vec![2, 3, 19, 19, 51, 58], 6);
            let start = random.values(rows * columns);
            let rounded = batch.formula(how, &start, &eleven_digits);
            let exact = batch.formula(how, &start, &|value| value);
            for device in devices() {
                for unit in units(device) {
                    let got = batch.on(device, unit, how, 0..batch.sizes.len(), &start);
                    let name = format!("{} {unit:?} {how:?} {rows} {columns}", device.name());
                    assert_close(&format!("{name}, rounded"), &got, &rounded, 2e-6);
                    assert_close(&format!("{name}, exact"), &got, &exact, 1e-3);
                }
            }
            let b = devices()[0].upload_new(&[0.0f32]).unwrap();
            let (left, right) = (Window::at(&b, rows + pad, pad), Window::at(&b, columns + pad, pad));
            let params = params(Segments::new(&b, &batch.offsets), left, right, rows, columns).unwrap();
            let exponents = |values: &[f32], stride: usize| -> Vec<i32> {
                let largest = |row: &[f32]| row[pad..].iter().fold(0.0f32, |most, v| most.max(v.abs()));
                values.chunks(stride).map(|row| 14 - largest(row).log2().floor() as i32).collect()
            };
            let (el, er) = (exponents(&batch.left, rows + pad), exponents(&batch.right, columns + pad));
            let mut plain = start.clone();
            reference(&params, how, &batch.offsets, &batch.left, &batch.right, &el, &er, &mut plain);
            assert_close("reference", &plain, &rounded, 2e-6);
        }
    }
}

/// Gradients far below and above what half precision can hold, each unit alone.
#[test]
fn units_of_all_sizes_keep_their_digits() {
    let mut random = Random::new("linear/mixed_importance sizes");
    let (rows, columns) = (random.size(64, 80), random.size(64, 80));
    let batch = Batch::new(&mut random, rows, columns, 1, vec![0, 5, 18, 40], 60);
    for (n, size) in batch.sizes.iter().enumerate() {
        let want: Vec<f64> = batch.gradient(n, &eleven_digits).iter().map(|g| g / size).collect();
        for device in devices() {
            for unit in units(device) {
                let got = batch.on(device, unit, Accumulate::Sum, n..n + 1, &vec![0.0; rows * columns]);
                let got: Vec<f32> = got.iter().map(|g| (f64::from(*g) / size) as f32).collect();
                assert_close(&format!("{} {unit:?}, unit {n} of size {size:e}", device.name()), &got, &want, 2e-6);
            }
        }
    }
}

/// No split of the units over launches changes a bit.
#[test]
fn splits_keep_the_bits() {
    let mut random = Random::new("linear/mixed_importance splits");
    let (rows, columns) = (random.size(64, 90), random.size(64, 90));
    let batch = Batch::new(&mut random, rows, columns, 2, vec![0, 4, 30, 47, 60, 61], 6);
    let start = random.values(rows * columns);
    for device in devices() {
        for unit in units(device) {
            for how in Accumulate::ALL {
                let whole = batch.on(device, unit, how, 0..5, &start);
                for cut in 1..5 {
                    let first = batch.on(device, unit, how, 0..cut, &start);
                    let both = batch.on(device, unit, how, cut..5, &first);
                    assert_eq!(both, whole, "{} {unit:?} {how:?} {cut}", device.name());
                }
            }
        }
    }
}
