//! Importance from per-unit gradients on every device: all accumulations, both tiles, windows, units of all lengths, and
//! splits that must not change bits.

use efface::device::Device;
use efface::kernels::linear::weight_importance::{Params, reference, run};
use efface::kernels::{Accumulate, Segments, Window};
use kernels_tests::{Random, assert_close, devices, variants};

use crate::{dense, gradient};

/// One batch: ragged units of a window each into two activations, and the importance before it.
struct Batch {
    rows: usize,
    columns: usize,
    offsets: Vec<u32>,
    left: Vec<f32>,
    right: Vec<f32>,
    importance: Vec<f32>,
}

const LEFT_OFFSET: usize = 1;
const RIGHT_OFFSET: usize = 4;

impl Batch {
    fn new(random: &mut Random, rows: usize, columns: usize, offsets: Vec<u32>) -> Self {
        let tokens = *offsets.last().unwrap() as usize;
        Batch {
            rows,
            columns,
            left: random.values(tokens * (rows + 3)),
            right: random.values(tokens * (columns + 6)),
            importance: random.values(rows * columns),
            offsets,
        }
    }

    fn strides(&self) -> (usize, usize) {
        (self.rows + 3, self.columns + 6)
    }

    fn params(&self) -> Params {
        Params {
            units: self.offsets.len() as u32 - 1,
            rows: self.rows as u32,
            columns: self.columns as u32,
            left_stride: self.strides().0 as u32,
            left_offset: LEFT_OFFSET as u32,
            right_stride: self.strides().1 as u32,
            right_offset: RIGHT_OFFSET as u32,
        }
    }

    /// The units `from .. to` on a device, from `start` on.
    fn on(&self, device: &Device, accumulate: Accumulate, from: usize, to: usize, start: &[f32]) -> Vec<f32> {
        let [bl, br] = [&self.left, &self.right].map(|v| device.upload_new(v).unwrap());
        let bf = device.upload_new(start).unwrap();
        let bo = device.upload_new(&self.offsets[from..=to]).unwrap();
        let segments = Segments::new(&bo, &self.offsets[from..=to]);
        let left = Window::at(&bl, self.strides().0, LEFT_OFFSET);
        let right = Window::at(&br, self.strides().1, RIGHT_OFFSET);
        run(device, accumulate, segments, left, right, self.rows, self.columns, &bf).unwrap();
        device.read(&bf, self.rows * self.columns).unwrap()
    }

    /// The formula in float64.
    fn formula(&self, accumulate: Accumulate) -> Vec<f64> {
        let left = dense(&self.left, self.strides().0, LEFT_OFFSET, self.rows);
        let right = dense(&self.right, self.strides().1, RIGHT_OFFSET, self.columns);
        let mut f: Vec<f64> = self.importance.iter().map(|f| f64::from(*f)).collect();
        for unit in self.offsets.windows(2) {
            let g = gradient(unit[0] as usize, unit[1] as usize, &left, &right);
            for (f, g) in f.iter_mut().zip(g) {
                *f += match accumulate {
                    Accumulate::Square => g.powi(2),
                    Accumulate::Magnitude => g.max(-g),
                    Accumulate::Sum => g,
                };
            }
        }
        f
    }

    fn check(&self, accumulate: Accumulate, tolerance: f64) {
        let want = self.formula(accumulate);
        for device in devices() {
            let got = self.on(device, accumulate, 0, self.offsets.len() - 1, &self.importance);
            assert_close(&format!("{} {accumulate:?} {:?}", device.name(), self.params()), &got, &want, tolerance);
        }
        let mut plain = self.importance.clone();
        reference(&self.params(), accumulate, &self.offsets, &self.left, &self.right, &mut plain);
        assert_close("reference", &plain, &want, tolerance);
    }
}

#[test]
fn matches_float64() {
    let mut random = Random::new("linear/weight_importance");
    for accumulate in Accumulate::ALL {
        for (rows, columns) in [
            (random.size(1, 63), random.size(20, 150)),
            (random.size(64, 150), random.size(1, 63)),
            (random.size(64, 140), random.size(64, 140)),
        ] {
            let tokens = random.size(1, 120);
            let units = random.size(1, tokens.min(9));
            let offsets = random.offsets(units, tokens);
            Batch::new(&mut random, rows, columns, offsets).check(accumulate, 1e-6);
        }
    }
}

/// Down to a single element. Their errors are judged together: alone, a sum that happens to cancel has next to no size to
/// compare its error with.
#[test]
fn narrow_matrices_match_float64() {
    let mut random = Random::new("linear/weight_importance narrow");
    for accumulate in Accumulate::ALL {
        let batches: Vec<Batch> = (0..80)
            .map(|_| {
                let (rows, columns) = (random.size(1, 8), random.size(1, 8));
                let tokens = random.size(1, 60);
                let units = random.size(1, tokens.min(9));
                let offsets = random.offsets(units, tokens);
                Batch::new(&mut random, rows, columns, offsets)
            })
            .collect();
        let want: Vec<f64> = batches.iter().flat_map(|batch| batch.formula(accumulate)).collect();
        for device in devices() {
            let on = |batch: &Batch| batch.on(device, accumulate, 0, batch.offsets.len() - 1, &batch.importance);
            let got: Vec<f32> = batches.iter().flat_map(on).collect();
            assert_close(&format!("{} {accumulate:?}", device.name()), &got, &want, 1e-6);
        }
    }
}

/// Units of one token, units longer than what the CPU packs at a time, and a batch that starts amid the rows.
#[test]
fn units_of_any_length_match_float64() {
    let mut random = Random::new("linear/weight_importance lengths");
    let long = random.size(1030, 1200) as u32;
    // A running sum of a thousand random terms rounds a thousand times, by half a unit of 6e-8 of its size so far: about
    // 1e-6 of the result, and twice that of its square.
    let tolerance = 3e-6;
    for offsets in [(0..=40).collect(), vec![0, 3, 1000, 1030, 1030 + long, 1031 + long], vec![7, 8, 30, 55]] {
        let (rows, columns) = (random.size(5, 20), random.size(15, 40));
        for accumulate in Accumulate::ALL {
            Batch::new(&mut random, rows, columns, offsets.clone()).check(accumulate, tolerance);
        }
    }
}

/// Neither a split of the units over launches nor one of the rows changes a bit, on any device.
#[test]
fn splits_keep_the_bits() {
    let mut random = Random::new("linear/weight_importance splits");
    let (rows, columns) = (random.size(130, 150), random.size(64, 90));
    let tokens = random.size(30, 90);
    let offsets = random.offsets(7, tokens);
    let cut = random.size(1, 6);
    let batch = Batch::new(&mut random, rows, columns, offsets);
    for device in devices() {
        for accumulate in Accumulate::ALL {
            let whole = batch.on(device, accumulate, 0, 7, &batch.importance);
            let first = batch.on(device, accumulate, 0, cut, &batch.importance);
            assert_eq!(batch.on(device, accumulate, cut, 7, &first), whole, "{} units", device.name());

            let cut_row = 65;
            let part = Batch {
                rows: rows - cut_row,
                columns,
                offsets: batch.offsets.clone(),
                left: batch.left.chunks(rows + 3).flat_map(|row| &row[cut_row..]).copied().collect(),
                right: batch.right.clone(),
                importance: batch.importance[cut_row * columns..].to_vec(),
            };
            let rest = part.on(device, accumulate, 0, 7, &part.importance);
            assert_eq!(rest, whole[cut_row * columns..], "{} rows", device.name());
        }
    }
}

/// Every tile, with edges and without, gives the same bits. Among the units are empty ones, which leave no trace, and ones
/// that end within what is staged at a time, at its end and beyond it.
#[test]
fn all_tiles_give_the_same_bits() {
    let mut random = Random::new("linear/weight_importance tiles");
    let offsets = vec![2, 2, 3, 18, 18, 18, 34, 50, 50 + random.size(17, 40) as u32];
    let offsets: Vec<u32> = offsets.iter().copied().chain([*offsets.last().unwrap()]).collect();
    let (rows, columns) = (128, 128);
    let tokens = *offsets.last().unwrap() as usize;
    let [left, right] = [rows, columns].map(|width| random.values(tokens * width));
    let importance = random.values(rows * columns);
    let shift = |values: &[f32], width: usize, before: usize, after: usize| -> Vec<f32> {
        values.chunks(width).flat_map(|row| [&vec![7.0; before], row, &vec![7.0; after]].concat()).collect()
    };
    let odd = Batch {
        rows,
        columns,
        offsets: offsets.clone(),
        left: shift(&left, rows, LEFT_OFFSET, 3 - LEFT_OFFSET),
        right: shift(&right, columns, RIGHT_OFFSET, 6 - RIGHT_OFFSET),
        importance: importance.clone(),
    };
    for accumulate in Accumulate::ALL {
        let want = odd.formula(accumulate);
        let mut first: Option<Vec<f32>> = None;
        // Neither has the tile anything to do with what becomes of a gradient: one will do for the others.
        let tiles = if accumulate == Accumulate::Square { usize::MAX } else { 2 };
        for (name, device) in variants("linear/weight_importance").into_iter().take(tiles) {
            let with_edges = odd.on(&device, accumulate, 0, offsets.len() - 1, &importance);
            assert_close(&format!("{name} {accumulate:?}"), &with_edges, &want, 1e-6);

            let [bl, br, bf] = [&left, &right, &importance].map(|v| device.upload_new(v).unwrap());
            let bo = device.upload_new(&offsets).unwrap();
            let segments = Segments::new(&bo, &offsets);
            let (l, r) = (Window::all(&bl, rows), Window::all(&br, columns));
            run(&device, accumulate, segments, l, r, rows, columns, &bf).unwrap();
            assert_eq!(device.read::<f32>(&bf, rows * columns).unwrap(), with_edges, "{name} {accumulate:?} edges");
            if !device.is_cpu() {
                assert_eq!(*first.get_or_insert_with(|| with_edges.clone()), with_edges, "{name} {accumulate:?}");
            }
        }
    }
}
