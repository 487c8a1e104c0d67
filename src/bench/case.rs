//! A case: one kernel's problem at one size, what launches it, and how its result is checked.

use rayon::prelude::*;

use crate::device::{Buffer, Device};
use crate::kernels::Cost;
use crate::random::Random;
use crate::{Element, Result};

/// Makes a case ready to run: its data on the device.
type Prepare = Box<dyn Fn(&Device, &mut Data) -> Result<Prepared> + Send + Sync>;

/// One kernel's problem.
pub struct Case {
    /// `family/name` of the kernel.
    pub kernel: &'static str,
    /// The model whose layer it is.
    pub model: &'static str,
    /// What of the model, its shape and element type.
    pub problem: String,
    /// Tokens in the launch.
    pub tokens: usize,
    prepare: Prepare,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} x {}", self.kernel, self.model, self.problem, self.tokens)
    }
}

impl Case {
    /// A case that `prepare` makes ready.
    pub(super) fn new(
        kernel: &'static str,
        (model, problem, tokens): (&'static str, String, usize),
        prepare: impl Fn(&Device, &mut Data) -> Result<Prepared> + Send + Sync + 'static,
    ) -> Self {
        Case { kernel, model, problem, tokens, prepare: Box::new(prepare) }
    }

    /// Puts its data, drawn with `seed`, on the device.
    ///
    /// # Errors
    /// When the device has no room for it or failed.
    pub fn prepare(&self, device: &Device, seed: u64) -> Result<Prepared> {
        (self.prepare)(device, &mut Data(Random::new(seed, self.kernel)))
    }
}

/// A case with its data on the device.
pub struct Prepared {
    /// What a launch moves and computes.
    pub cost: Cost,
    launch: Box<dyn Fn() -> Result<()>>,
    check: Box<dyn Fn() -> Result<Accuracy>>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl Prepared {
    /// From what launches the kernel and what compares the result of the first launch.
    pub(super) fn new(
        cost: Cost,
        launch: impl Fn() -> Result<()> + 'static,
        check: impl Fn() -> Result<Accuracy> + 'static,
    ) -> Self {
        Prepared { cost, launch: Box::new(launch), check: Box::new(check) }
    }

    /// Launches the kernel once.
    ///
    /// # Errors
    /// When the device failed.
    pub fn launch(&self) -> Result<()> {
        (self.launch)()
    }

    /// Compares what the first launch made with the reference in float64, at first, last and random places where all of it
    /// would take too long.
    ///
    /// # Errors
    /// When the result cannot be read.
    pub fn check(&self) -> Result<Accuracy> {
        (self.check)()
    }
}

/// How far a result is from float64.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Accuracy {
    /// Relative error of all compared numbers together: ‖got − want‖ / ‖want‖.
    pub error: f64,
    /// The largest such error that passes.
    pub tolerance: f64,
    /// Numbers that were compared.
    pub compared: usize,
}

impl Accuracy {
    /// Of what was computed beside what is right.
    pub(super) fn of(got: &[f64], want: &[f64], tolerance: f64) -> Self {
        let compared = got.len();
        if got.len() != want.len() || got.is_empty() {
            return Accuracy { error: f64::INFINITY, tolerance, compared };
        }
        let (mut difference, mut size) = (0.0, 0.0);
        for (got, want) in got.iter().zip(want) {
            difference += (got - want).powi(2);
            size += want.powi(2);
        }
        let error = if difference == 0.0 { 0.0 } else { (difference / size).sqrt() };
        Accuracy { error, tolerance, compared }
    }

    /// Of whole numbers, which are right or wrong.
    pub(super) fn exact(got: &[u32], want: &[u32]) -> Self {
        let wide = |values: &[u32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        Accuracy::of(&wide(got), &wide(want), 0.0)
    }

    /// Whether the result is right. An error that is no number is not.
    pub fn passes(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// Random data for a case.
pub(super) struct Data(pub(super) Random);

impl Data {
    /// `count` numbers from -1 to 1, made on all cores.
    pub(super) fn values(&mut self, count: usize) -> Vec<f32> {
        const PIECE: usize = 1 << 16;
        let seed = self.0.bits();
        let mut values = vec![0.0; count];
        values.par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| {
            let mut random = Random::new(seed.wrapping_add(piece as u64), "values");
            for pair in values.chunks_mut(2) {
                let bits = random.bits();
                for (value, bits) in pair.iter_mut().zip([bits as u32, (bits >> 32) as u32]) {
                    *value = (bits >> 8) as f32 / (1u32 << 23) as f32 - 1.0;
                }
            }
        });
        values
    }

    /// A stored matrix of `count` numbers: its bytes, and the numbers after the rounding of storage.
    pub(super) fn stored(&mut self, element: Element, count: usize) -> Result<(Vec<u8>, Vec<f32>)> {
        let values = self.values(count);
        let bytes = element.encode(&values);
        if element == Element::F32 {
            return Ok((bytes, values));
        }
        let mut rounded = vec![0.0; count];
        element.decode(&bytes, &mut rounded)?;
        Ok((bytes, rounded))
    }

    /// About `wanted` of the numbers below `count`, ascending: the first, the last and random ones.
    pub(super) fn picks(&mut self, count: usize, wanted: usize) -> Vec<usize> {
        let mut picks: Vec<usize> = (2..wanted).map(|_| self.0.below(count)).collect();
        picks.extend([0, count - 1]);
        picks.sort_unstable();
        picks.dedup();
        picks
    }

    /// Token ids below `rows`.
    pub(super) fn ids(&mut self, count: usize, rows: usize) -> Vec<u32> {
        (0..count).map(|_| self.0.below(rows) as u32).collect()
    }
}

/// Where samples of about `length` tokens begin and end among `tokens`.
pub(super) fn offsets(tokens: usize, length: usize) -> Vec<u32> {
    (0..tokens).step_by(length).chain([tokens]).map(|t| t as u32).collect()
}

/// The rows `rows` of a `[_, width]` matrix, in float64.
pub(super) fn rows_of(values: &[f32], width: usize, rows: &[usize]) -> Vec<f64> {
    rows.iter().flat_map(|row| &values[row * width..(row + 1) * width]).map(|v| f64::from(*v)).collect()
}

/// The columns `columns` of a `[_, width]` matrix, row by row, in float64.
pub(super) fn columns_of(values: &[f32], width: usize, columns: &[usize]) -> Vec<f64> {
    values.chunks_exact(width).flat_map(|row| columns.iter().map(|c| f64::from(row[*c]))).collect()
}

/// The rows `rows` of a `[_, width]` matrix on the device, in float64.
pub(super) fn read_rows(device: &Device, buffer: &Buffer, width: usize, rows: &[usize]) -> Result<Vec<f64>> {
    let mut row = vec![0.0f32; width];
    let mut all = Vec::with_capacity(rows.len() * width);
    for r in rows {
        device.download(buffer, (r * width * 4) as u64, bytemuck::cast_slice_mut(&mut row))?;
        all.extend(row.iter().map(|v| f64::from(*v)));
    }
    Ok(all)
}

/// The elements at `rows` and `columns` of a `[_, width]` matrix on the device, in float64.
pub(super) fn read_elements(
    device: &Device,
    buffer: &Buffer,
    width: usize,
    rows: &[usize],
    columns: &[usize],
) -> Result<Vec<f64>> {
    Ok(read_rows(device, buffer, width, rows)?
        .chunks_exact(width)
        .flat_map(|row| columns.iter().map(|c| row[*c]).collect::<Vec<f64>>())
        .collect())
}

/// Widens numbers.
pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}
