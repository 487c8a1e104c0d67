//! Matrix products on the CPU in tiles of registers, from packed panels: what the plain product and the fused importance have in common, which
//! is how operands are packed and how a tile is summed (the scheme of Goto and van de Geijn 2008).
//!
//! Both operands are packed into panels: all that a tile needs of one, step of the inner dimension by step, so that the
//! inner loop reads contiguous memory.

use std::cell::RefCell;
use std::ops::Range;

use faer::MatMut;
use rayon::prelude::*;

use super::simd::{self, MAX_LANES, SQUARE, Vector};
use crate::Element;

/// Rows of a tile: with [`VECTORS`], 12 vectors of sums leave room for the operands in 16 registers, and for 12 more sums
/// in 32.
pub(crate) const TILE_ROWS: usize = 6;
/// Vectors in a row of a tile.
pub(crate) const VECTORS: usize = 2;
/// Columns of the widest tile.
pub(crate) const MAX_WIDTH: usize = VECTORS * MAX_LANES;
/// A tile in registers.
pub(crate) type Tile<V> = [[V; VECTORS]; TILE_ROWS];

/// Columns of a tile on this processor.
pub(crate) fn width() -> usize {
    VECTORS * simd::lanes()
}

/// The product of a left and a right panel.
#[inline(always)]
pub(crate) fn tile<V: Vector>(left: &[[f32; TILE_ROWS]], right: &[f32]) -> Tile<V> {
    let mut sums = [[V::splat(0.0); VECTORS]; TILE_ROWS];
    for (left, right) in left.iter().zip(right.chunks_exact(VECTORS * V::LANES)) {
        let right: [V; VECTORS] = std::array::from_fn(|j| V::load(&right[j * V::LANES..]));
        for i in 0..TILE_ROWS {
            let left = V::splat(left[i]);
            for j in 0..VECTORS {
                sums[i][j] = left.mul_add(right[j], sums[i][j]);
            }
        }
    }
    sums
}

/// A row-major matrix to be packed: stored weights, or a window into rows of activations.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    /// From the first element on.
    bytes: &'a [u8],
    element: Element,
    /// Elements from row to row.
    stride: usize,
}

impl<'a> Stored<'a> {
    /// The weights `bytes` with rows of `columns` elements.
    pub(crate) fn weights(element: Element, bytes: &'a [u8], columns: usize) -> Self {
        Stored { bytes, element, stride: columns }
    }

    /// The columns of `values`, whose rows are `stride` long, from `offset` on.
    pub(crate) fn window(values: &'a [f32], stride: usize, offset: usize) -> Self {
        Stored { bytes: bytemuck::cast_slice(&values[offset.min(values.len())..]), element: Element::F32, stride }
    }

    /// The numbers themselves, where that is what is stored.
    #[inline(always)]
    fn plain(&self) -> Option<&'a [f32]> {
        if self.element == Element::F32 { bytemuck::try_cast_slice(self.bytes).ok() } else { None }
    }

    /// Decodes a part of a row.
    #[inline(always)]
    fn decode(&self, row: usize, columns: Range<usize>, values: &mut [f32]) {
        let size = self.element.size();
        let start = row * self.stride + columns.start;
        // The lengths match by construction, which is all that decoding can object to.
        let _ = self.element.decode(&self.bytes[start * size..(start + columns.len()) * size], values);
    }

    /// Packs a panel whose inner dimension is the matrix's rows: `packed[k, j] = matrix[rows.start + k, columns.start + j]`,
    /// zeros from the last column on.
    #[inline(always)]
    pub(crate) fn pack_columns(&self, rows: Range<usize>, columns: Range<usize>, width: usize, packed: &mut [f32]) {
        if columns.len() == width
            && let Some(values) = self.plain()
        {
            let values = rows.map(|row| &values[row * self.stride + columns.start..][..width]);
            // A copy of a known length needs no call.
            return match width {
                6 => copy::<6>(values, packed),
                8 => copy::<8>(values, packed),
                16 => copy::<16>(values, packed),
                32 => copy::<32>(values, packed),
                _ => values.zip(packed.chunks_exact_mut(width)).for_each(|(from, to)| to.copy_from_slice(from)),
            };
        }
        for (row, packed) in rows.zip(packed.chunks_exact_mut(width)) {
            let (filled, rest) = packed.split_at_mut(columns.len());
            self.decode(row, columns.clone(), filled);
            rest.fill(0.0);
        }
    }

    /// Packs a left panel, whose inner dimension is the matrix's columns: `packed[k, i] = matrix[rows.start + i, columns.start + k]`,
    /// zeros from the last row on.
    #[inline(always)]
    fn pack_left(&self, rows: Range<usize>, columns: Range<usize>, packed: &mut [f32]) {
        if rows.len() == TILE_ROWS
            && let Some(values) = self.plain()
        {
            let start = |i: usize| (rows.start + i) * self.stride + columns.start;
            return turn_left(std::array::from_fn(|i| &values[start(i)..][..columns.len()]), packed);
        }
        let mut piece = [[0.0f32; PIECE]; TILE_ROWS];
        for (number, packed) in packed.chunks_mut(PIECE * TILE_ROWS).enumerate() {
            let count = self.piece(number, rows.clone(), columns.clone(), &mut piece);
            turn_left(std::array::from_fn(|i| &piece[i][..count]), packed);
        }
    }

    /// Packs a right panel whose inner dimension is the matrix's columns, as [`pack_left`](Self::pack_left) does a left one.
    #[inline(always)]
    fn pack_turned<V: Vector>(&self, rows: Range<usize>, columns: Range<usize>, packed: &mut [f32]) {
        let width = VECTORS * V::LANES;
        if rows.len() == width
            && let Some(values) = self.plain()
        {
            let start = |i: usize| (rows.start + i) * self.stride + columns.start;
            return turn::<V>(|i| &values[start(i)..][..columns.len()], columns.len(), packed);
        }
        let mut piece = [[0.0f32; PIECE]; MAX_WIDTH];
        for (number, packed) in packed.chunks_mut(PIECE * width).enumerate() {
            let count = self.piece(number, rows.clone(), columns.clone(), &mut piece);
            turn::<V>(|i| &piece[i][..count], count, packed);
        }
    }

    /// Decodes piece `number` of every row. Returns how many numbers each has.
    #[inline(always)]
    fn piece(&self, number: usize, rows: Range<usize>, columns: Range<usize>, piece: &mut [[f32; PIECE]]) -> usize {
        let start = columns.start + number * PIECE;
        let count = PIECE.min(columns.end - start);
        for (row, values) in rows.zip(piece) {
            self.decode(row, start..start + count, &mut values[..count]);
        }
        count
    }
}

/// Elements of each row that are decoded at a time.
const PIECE: usize = 32;

/// Copies rows of `W` numbers.
#[inline(always)]
fn copy<'a, const W: usize>(rows: impl Iterator<Item = &'a [f32]>, packed: &mut [f32]) {
    for (from, to) in rows.zip(packed.as_chunks_mut::<W>().0) {
        to.copy_from_slice(from);
    }
}

/// `packed[k, i] = rows[i][k]` for all k that the rows have.
#[inline(always)]
fn turn_left(rows: [&[f32]; TILE_ROWS], packed: &mut [f32]) {
    for (k, packed) in packed.as_chunks_mut::<TILE_ROWS>().0[..rows[0].len()].iter_mut().enumerate() {
        for i in 0..TILE_ROWS {
            packed[i] = rows[i][k];
        }
    }
}

/// The same for a right panel and rows of `count` numbers.
#[inline(always)]
fn turn<'a, V: Vector>(row: impl Fn(usize) -> &'a [f32], count: usize, packed: &mut [f32]) {
    let width = VECTORS * V::LANES;
    for first in (0..width).step_by(SQUARE) {
        let rows: [&[f32]; SQUARE] = std::array::from_fn(|i| &row(first + i)[..count]);
        let whole: [&[[f32; SQUARE]]; SQUARE] = rows.map(|row| row.as_chunks().0);
        for k in 0..count / SQUARE {
            V::turn(std::array::from_fn(|i| &whole[i][k]), &mut packed[k * SQUARE * width + first..], width);
        }
        for k in count / SQUARE * SQUARE..count {
            for i in 0..SQUARE {
                packed[k * width + first + i] = rows[i][k];
            }
        }
    }
}

/// The right factor of a product.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// The stored matrix `[inner, columns]`.
    Plain(Stored<'a>),
    /// The transpose of the stored matrix `[columns, inner]`.
    Transposed(Stored<'a>),
}

impl Right<'_> {
    #[inline(always)]
    fn pack<V: Vector>(&self, inner: Range<usize>, columns: Range<usize>, packed: &mut [f32]) {
        match self {
            Right::Plain(matrix) => matrix.pack_columns(inner, columns, VECTORS * V::LANES, packed),
            Right::Transposed(matrix) => matrix.pack_turned::<V>(columns, inner, packed),
        }
    }
}

/// Steps of the inner dimension between two visits to the result: a right panel of so many stays in the first cache.
const STEPS: usize = 256;
/// Right panels that one task works on, at most: they stay in the second cache.
const BAND_PANELS: usize = 8;

/// `out = left right`, or `out += left right`, with `inner` columns of `left`. Sums run over the inner dimension in the
/// same order whatever the number of rows. Tasks own bands of columns, whose part of `right` each packs for itself.
pub(crate) fn product(out: MatMut<'_, f32>, accumulate: bool, left: Stored<'_>, inner: usize, right: Right<'_>) {
    let (rows, columns) = (out.nrows(), out.ncols());
    if rows == 0 || columns == 0 {
        return;
    }
    let width = width();
    let all = columns.div_ceil(width);
    let tasks = tasks(all, rayon::current_num_threads());
    let row_panels = rows.div_ceil(TILE_ROWS);
    with_scratch(&LEFT, inner * row_panels * TILE_ROWS, |left_panels| {
        // By steps of the inner dimension, then by panels.
        let steps = STEPS * row_panels * TILE_ROWS;
        left_panels.par_chunks_mut(steps).enumerate().for_each(|(block, packed)| {
            let first = block * STEPS;
            let count = packed.len() / (row_panels * TILE_ROWS);
            packed.par_chunks_mut(count * TILE_ROWS).enumerate().with_min_len(16).for_each(|(panel, packed)| {
                let start = panel * TILE_ROWS;
                simd::wide(|| {
                    left.pack_left(start..rows.min(start + TILE_ROWS), first..first + count, packed);
                });
            });
        });
        let left = &*left_panels;
        let ends = (1..=tasks).map(|task| columns.min(task * all / tasks * width));
        bands(out, ends).into_par_iter().with_max_len(1).for_each(|(first, out)| {
            with_scratch(&RIGHT, STEPS * all.div_ceil(tasks) * width, |packed| {
                simd::widest(Band { out, first, accumulate, left, inner, right, packed });
            });
        });
    });
}

/// How many tasks share `panels` right panels: as many for each thread, none with more than [`BAND_PANELS`], and four for each thread
/// where there is enough.
fn tasks(panels: usize, threads: usize) -> usize {
    let enough = panels.div_ceil(BAND_PANELS).max(panels.min(4 * threads));
    enough.next_multiple_of(threads).min(panels)
}

/// Cuts `out` into bands that end before these columns, each with its first one's number.
fn bands(out: MatMut<'_, f32>, ends: impl Iterator<Item = usize>) -> Vec<(usize, MatMut<'_, f32>)> {
    let (mut rest, mut first, mut bands) = (out, 0, Vec::new());
    for end in ends {
        let (band, right) = rest.split_at_col_mut(end - first);
        bands.push((first, band));
        (rest, first) = (right, end);
    }
    bands
}

/// A band of columns of a product.
struct Band<'a> {
    out: MatMut<'a, f32>,
    first: usize,
    accumulate: bool,
    /// Panels `[inner, TILE_ROWS]`, cut into [`STEPS`].
    left: &'a [f32],
    inner: usize,
    right: Right<'a>,
    packed: &'a mut [f32],
}

impl simd::Work for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Band { mut out, first, accumulate, left, inner, right, packed } = self;
        let width = VECTORS * V::LANES;
        let (rows, columns) = (out.nrows(), out.ncols());
        let row_panels = rows.div_ceil(TILE_ROWS);
        for start in (0..inner.max(1)).step_by(STEPS) {
            let steps = start..inner.min(start + STEPS);
            // Without an inner dimension there is nothing to pack, and sums are zero.
            for column in (0..columns).step_by(width).filter(|_| !steps.is_empty()) {
                let packed = &mut packed[column * steps.len()..(column + width) * steps.len()];
                right.pack::<V>(steps.clone(), first + column..first + columns.min(column + width), packed);
            }
            let left = &left[start * row_panels * TILE_ROWS..steps.end * row_panels * TILE_ROWS];
            for row_panel in 0..row_panels {
                let row = row_panel * TILE_ROWS;
                let left = &left[row * steps.len()..(row + TILE_ROWS) * steps.len()];
                for column in (0..columns).step_by(width) {
                    let right = &packed[column * steps.len()..(column + width) * steps.len()];
                    let sums = tile::<V>(left.as_chunks().0, right);
                    let used = [TILE_ROWS.min(rows - row), width.min(columns - column)];
                    let mut target = out.as_mut().submatrix_mut(row, column, used[0], used[1]);
                    for (i, sums) in sums.iter().enumerate().take(used[0]) {
                        if let Some(target) = target.as_mut().row_mut(i).try_as_row_major_mut() {
                            store(sums, target.as_slice_mut(), accumulate || start > 0);
                        }
                    }
                }
            }
        }
    }
}

/// Writes a row of a tile, or adds it to what is there.
#[inline(always)]
fn store<V: Vector>(sums: &[V; VECTORS], target: &mut [f32], add: bool) {
    if target.len() == VECTORS * V::LANES {
        for (sum, target) in sums.iter().zip(target.chunks_exact_mut(V::LANES)) {
            let value = if add { sum.add(V::load(target)) } else { *sum };
            value.store(target);
        }
        return;
    }
    let mut padded = [0.0; MAX_WIDTH];
    for (sum, padded) in sums.iter().zip(padded.chunks_exact_mut(V::LANES)) {
        sum.store(padded);
    }
    for (target, value) in target.iter_mut().zip(padded) {
        *target = if add { *target + value } else { value };
    }
}

thread_local! {
    /// Packed panels. They are kept from product to product: fresh memory costs more than filling it.
    static LEFT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static RIGHT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` with `count` numbers of this thread's scratch memory, whose content is arbitrary.
pub(crate) fn with_scratch<R>(
    scratch: &'static std::thread::LocalKey<RefCell<Vec<f32>>>,
    count: usize,
    work: impl FnOnce(&mut [f32]) -> R,
) -> R {
    // Taken out meanwhile, since a thread that waits inside may begin with another product.
    let mut values = scratch.take();
    if values.len() < count {
        values.resize(count, 0.0);
    }
    let result = work(&mut values[..count]);
    scratch.set(values);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::dense::view_mut;

    /// Whole numbers, whose products and sums are exact in every order.
    fn numbers(count: usize, factor: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * factor + i / 7) % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn tasks_are_many_and_alike() {
        for (panels, threads) in [(1, 2), (36, 2), (96, 2), (3072, 2), (12, 5), (37, 16), (7, 1)] {
            let tasks = tasks(panels, threads);
            let sizes: Vec<usize> = (0..tasks).map(|t| (t + 1) * panels / tasks - t * panels / tasks).collect();
            assert_eq!(sizes.iter().sum::<usize>(), panels);
            assert!(sizes.iter().all(|size| (1..=BAND_PANELS).contains(size)), "{panels} panels: {sizes:?}");
            assert!(tasks == panels || tasks.is_multiple_of(threads), "{panels} panels, {threads} threads: {tasks}");
        }
    }

    #[test]
    fn products_of_every_shape_are_exact() {
        for [rows, inner, columns] in
            [[1, 1, 1], [6, 256, 16], [7, 257, 33], [65, 600, 18], [13, 0, 5], [20, 31, 200], [300, 64, 70]]
        {
            let (left, right) = (numbers(rows * (inner + 3), 3), numbers(inner * columns, 5));
            let turned: Vec<f32> = (0..inner * columns).map(|i| right[i % inner * columns + i / inner]).collect();
            let at = |r: usize, c: usize| {
                (0..inner).map(|k| left[r * (inner + 3) + 2 + k] * right[k * columns + c]).sum::<f32>()
            };
            for accumulate in [false, true] {
                let start = if accumulate { 2.0 } else { 0.0 };
                let want: Vec<f32> = (0..rows * columns).map(|i| start + at(i / columns, i % columns)).collect();
                let plain = Right::Plain(Stored::window(&right, columns, 0));
                let transposed = Right::Transposed(Stored::window(&turned, inner, 0));
                for right in [plain, transposed] {
                    let mut out = vec![2.0; rows * columns];
                    let window = Stored::window(&left, inner + 3, 2);
                    product(view_mut(&mut out, rows, columns, columns), accumulate, window, inner, right);
                    assert_eq!(out, want, "{rows} x {inner} x {columns}");
                }
            }
        }
    }
}
