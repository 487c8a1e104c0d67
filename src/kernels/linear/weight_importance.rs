//! The importance of a weight matrix: `F = accumulate over units n of G_n`, `G_n[r, c] = Σ_t left[t, r] right[t, c]` over
//! the unit's tokens. `G_n` is never written to memory: a tile of it is built in registers, accumulated into a tile of F
//! and forgotten. With [`Accumulate::Square`] this is the Fisher diagonal from per-sample gradients.

use std::cell::RefCell;

use rayon::prelude::*;

use super::{gradient_variant, mixed_importance};
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::panels::{self, MAX_WIDTH, Stored, TILE_ROWS, Tile, VECTORS, with_scratch};
use crate::kernels::shader::kernel_params;
use crate::kernels::simd::{self, Vector};
use crate::kernels::tuning::Problem;
use crate::kernels::{Accumulate, Cost, Kernel, Real, Segments, Window, index, launch};

/// How the registry lists it.
pub const KERNEL: Kernel = Kernel {
    name: "linear/weight_importance",
    summary: "importance of a weight matrix from per-unit gradients that exist in registers only",
};

kernel_params! {
    /// The shader's parameters.
    Params = LINEAR_WEIGHT_IMPORTANCE {
        /// Units that have a gradient.
        units: u32,
        /// Rows of F: columns of `left`.
        rows: u32,
        /// Columns of F: columns of `right`.
        columns: u32,
        /// Elements from one row of `left` to the next.
        left_stride: u32,
        /// First column of `left`.
        left_offset: u32,
        /// Elements from one row of `right` to the next.
        right_stride: u32,
        /// First column of `right`.
        right_offset: u32,
    }
}

/// Accumulates the gradients of all `segments` into `importance` `[rows, columns]`, in order, from the stored values on.
/// For a matrix stored `[out, in]`, `left` is the gradient at the layer's output and `right` its input; for one stored
/// `[in, out]` it is the other way round. In mixed precision, `linear/mixed_importance` does it.
///
/// # Errors
/// When a buffer is too small or the device failed.
pub fn run(
    device: &Device,
    accumulate: Accumulate,
    segments: Segments<'_>,
    left: Window<'_>,
    right: Window<'_>,
    rows: usize,
    columns: usize,
    importance: &Buffer,
) -> Result<()> {
    if let Some(unit) = device.precision().unit(rows, columns) {
        return mixed_importance::run(device, unit, accumulate, segments, left, right, rows, columns, importance);
    }
    let params = Params {
        units: index(segments.count)?,
        rows: index(rows)?,
        columns: index(columns)?,
        left_stride: index(left.stride)?,
        left_offset: index(left.offset)?,
        right_stride: index(right.stride)?,
        right_offset: index(right.offset)?,
    };
    let problem = Problem { kernel: KERNEL.name, element: None, rows, columns };
    let (variant, tile) = gradient_variant(device, &problem, &[left, right]);
    let variant = format!("ACCUMULATE={},{variant}", accumulate.name());
    let workgroups = tile.grid(rows, columns);
    let buffers = [segments.offsets, left.buffer, right.buffer, importance];
    launch(device, KERNEL.name, &variant, &params, &buffers, workgroups, cost(&params, segments.tokens), |buffers| {
        let (offsets, left, right) = (buffers.read(1), buffers.read(2), buffers.read(3));
        cpu(&params, accumulate, &offsets, &left, &right, &mut buffers.write(4));
    })
}

/// What one launch on `tokens` tokens costs.
pub fn cost(params: &Params, tokens: usize) -> Cost {
    let [units, rows, columns, tokens] =
        [params.units.into(), params.rows.into(), params.columns.into(), tokens as u64];
    Cost {
        bytes: 4 * (units + 1 + tokens * (rows + columns) + 2 * rows * columns),
        operations: 2 * (tokens + units) * rows * columns,
    }
}

/// The shader's loop, plainly.
pub fn reference<R: Real>(
    params: &Params,
    accumulate: Accumulate,
    offsets: &[u32],
    left: &[R],
    right: &[R],
    importance: &mut [R],
) {
    let p = params;
    for r in 0..p.rows {
        for c in 0..p.columns {
            let mut f = importance[(r * p.columns + c) as usize];
            for n in 0..p.units as usize {
                let mut g = R::default();
                for t in offsets[n]..offsets[n + 1] {
                    g += left[(t * p.left_stride + p.left_offset + r) as usize]
                        * right[(t * p.right_stride + p.right_offset + c) as usize];
                }
                f += match accumulate {
                    Accumulate::Square => g * g,
                    Accumulate::Magnitude => g.abs(),
                    Accumulate::Sum => g,
                };
            }
            importance[(r * p.columns + c) as usize] = f;
        }
    }
}

/// Tiles of rows that one task works on, at most: so many panels of `left` stay in the second cache.
const BAND_TILES: usize = 8;
/// Tokens between two visits to F, where the units are not longer: fewer would move F more often, more would push the
/// panels out of the caches.
const VISIT_TOKENS: usize = 512;

thread_local! {
    /// Packed panels, kept from launch to launch.
    static LEFT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static RIGHT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The fast form on the CPU. Both operands are packed into panels as wide as a tile, so that the inner loop reads
/// contiguous memory; tasks own bands of rows of F.
pub fn cpu(
    params: &Params,
    accumulate: Accumulate,
    offsets: &[u32],
    left: &[f32],
    right: &[f32],
    importance: &mut [f32],
) {
    let [rows, columns] = [params.rows, params.columns].map(|n| n as usize);
    if rows == 0 || columns == 0 {
        return;
    }
    let left = Stored::window(left, params.left_stride as usize, params.left_offset as usize);
    let right = Stored::window(right, params.right_stride as usize, params.right_offset as usize);
    let width = panels::width();
    let tiles_per_task = rows.div_ceil(TILE_ROWS).div_ceil(4 * rayon::current_num_threads()).clamp(1, BAND_TILES);
    let band_rows = tiles_per_task * TILE_ROWS;
    for (first, ends) in visits(&offsets[..=params.units as usize]) {
        let tokens = *ends.last().unwrap_or(&0);
        if tokens == 0 {
            continue;
        }
        with_scratch(&RIGHT, columns.div_ceil(width) * tokens * width, |right_panels| {
            right_panels.par_chunks_mut(tokens * width).enumerate().for_each(|(panel, packed)| {
                let columns = panel * width..columns.min((panel + 1) * width);
                simd::wide(|| right.pack_columns(first..first + tokens, columns, width, packed));
            });
            let right = &*right_panels;
            let bands = importance[..rows * columns].par_chunks_mut(band_rows * columns).enumerate();
            bands.with_max_len(1).for_each(|(band, importance)| {
                let start = band * band_rows;
                let count = importance.len() / columns;
                with_scratch(&LEFT, count.div_ceil(TILE_ROWS) * tokens * TILE_ROWS, |panels| {
                    simd::wide(|| {
                        for (panel, packed) in panels.chunks_exact_mut(tokens * TILE_ROWS).enumerate() {
                            let row = start + panel * TILE_ROWS;
                            let rows = row..(start + count).min(row + TILE_ROWS);
                            left.pack_columns(first..first + tokens, rows, TILE_ROWS, packed);
                        }
                    });
                    simd::widest(Band { accumulate, ends: &ends, left: panels, right, columns, importance });
                });
            });
        });
    }
}

/// Groups the units into visits to F. For each: its first token, and where its units end, counted from there.
fn visits(offsets: &[u32]) -> Vec<(usize, Vec<usize>)> {
    let mut visits: Vec<(usize, Vec<usize>)> = Vec::new();
    for unit in offsets.windows(2) {
        let [start, end] = [unit[0] as usize, unit[1] as usize];
        match visits.last_mut() {
            Some((first, ends)) if end - *first <= VISIT_TOKENS => ends.push(end - *first),
            _ => visits.push((start, vec![end - start])),
        }
    }
    visits
}

/// A band of rows of F in one visit.
struct Band<'a> {
    accumulate: Accumulate,
    /// Where the units end.
    ends: &'a [usize],
    /// Panels `[tokens, TILE_ROWS]`.
    left: &'a [f32],
    /// Panels `[tokens, VECTORS * LANES]`.
    right: &'a [f32],
    columns: usize,
    importance: &'a mut [f32],
}

impl simd::Work for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match self.accumulate {
            Accumulate::Square => self.each_tile(|f: V, g: V| g.mul_add(g, f)),
            Accumulate::Magnitude => self.each_tile(|f: V, g: V| f.add(g.abs())),
            Accumulate::Sum => self.each_tile(|f: V, g: V| f.add(g)),
        }
    }
}

impl Band<'_> {
    #[inline(always)]
    fn each_tile<V: Vector>(self, accumulate: impl Fn(V, V) -> V) {
        let width = VECTORS * V::LANES;
        let tokens = *self.ends.last().unwrap_or(&0);
        for (i, right) in self.right.chunks_exact(tokens * width).enumerate() {
            let first_column = i * width;
            let used = width.min(self.columns - first_column);
            let band = self.importance.chunks_mut(TILE_ROWS * self.columns);
            for (importance, left) in band.zip(self.left.chunks_exact(tokens * TILE_ROWS)) {
                // A tile at an edge is completed with zeros, whose sums are not stored.
                let mut padded = [[0.0; MAX_WIDTH]; TILE_ROWS];
                let mut f = [[V::splat(0.0); VECTORS]; TILE_ROWS];
                for ((f, row), padded) in f.iter_mut().zip(importance.chunks_exact(self.columns)).zip(&mut padded) {
                    let mut row = &row[first_column..first_column + used];
                    if used < width {
                        padded[..used].copy_from_slice(row);
                        row = &padded[..width];
                    }
                    for (j, f) in f.iter_mut().enumerate() {
                        *f = V::load(&row[j * V::LANES..]);
                    }
                }
                let f = tile_over_units(f, self.ends, left.as_chunks().0, right, &accumulate);
                for ((f, row), padded) in f.iter().zip(importance.chunks_exact_mut(self.columns)).zip(&mut padded) {
                    let row = &mut row[first_column..first_column + used];
                    if used < width {
                        for (j, f) in f.iter().enumerate() {
                            f.store(&mut padded[j * V::LANES..]);
                        }
                        row.copy_from_slice(&padded[..used]);
                    } else {
                        for (j, f) in f.iter().enumerate() {
                            f.store(&mut row[j * V::LANES..]);
                        }
                    }
                }
            }
        }
    }
}

/// A tile of F after all units: the kernel's inner loops.
#[inline(always)]
fn tile_over_units<V: Vector>(
    mut f: Tile<V>,
    ends: &[usize],
    left: &[[f32; TILE_ROWS]],
    right: &[f32],
    accumulate: &impl Fn(V, V) -> V,
) -> Tile<V> {
    let width = VECTORS * V::LANES;
    let mut start = 0;
    for &end in ends {
        let g = panels::tile::<V>(&left[start..end], &right[start * width..end * width]);
        for i in 0..TILE_ROWS {
            for j in 0..VECTORS {
                f[i][j] = accumulate(f[i][j], g[i][j]);
            }
        }
        start = end;
    }
    f
}
