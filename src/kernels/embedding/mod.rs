//! Kernels of embedding tables, tied to the head or not. A table may be given in slices of whole rows: `first_row` says
//! which rows of the table a slice holds, and what concerns other rows is left alone.
//!
//! A unit's gradient of an embedding is non-zero only in the rows of the unit's tokens. [`RowIndex`] lists those.

pub mod grads;
pub mod head_rows;
pub mod importance;
pub mod lookup;
pub mod tied_importance;

use crate::device::{Buffer, Device};
use crate::kernels::Kernel;
use crate::{Error, Result};

/// The family's kernels.
pub const KERNELS: &[Kernel] =
    &[grads::KERNEL, head_rows::KERNEL, importance::KERNEL, lookup::KERNEL, tied_importance::KERNEL];

/// The rows of an embedding that a batch touches. An *entry* is a (row, unit) pair: one of the unit's tokens, at least, is
/// this row. Entries are ordered by row, then by unit. Everything is `u32`.
#[derive(Debug)]
pub struct RowIndex {
    /// The distinct rows, ascending: `[rows]`.
    pub rows: Buffer,
    /// The entries of row `i` are `row_entries[i] .. row_entries[i + 1]`: `[rows + 1]`.
    pub row_entries: Buffer,
    /// The tokens of entry `e` are `tokens[entry_tokens[e] .. entry_tokens[e + 1]]`: `[entries + 1]`.
    pub entry_tokens: Buffer,
    /// Token numbers, ascending within an entry: `[tokens]`.
    pub tokens: Buffer,
    /// The row of each entry: `[entries]`.
    pub entry_row: Buffer,
    /// The first token of each entry's unit: `[entries]`.
    pub entry_segment_start: Buffer,
    /// One past the last token of each entry's unit: `[entries]`.
    pub entry_segment_end: Buffer,
    entries: usize,
    distinct: usize,
    token_count: usize,
    unit_tokens: usize,
}

impl RowIndex {
    /// Indexes a batch: unit `n` is the tokens `segment_offsets[n] .. segment_offsets[n + 1]`, and token `t` the row
    /// `ids[t]`.
    ///
    /// # Errors
    /// When the offsets do not ascend within the tokens, or the device has no memory for the index.
    pub fn new(device: &Device, segment_offsets: &[u32], ids: &[u32]) -> Result<RowIndex> {
        let mut places = Vec::with_capacity(ids.len());
        for unit in segment_offsets.windows(2) {
            let [start, end] = [unit[0], unit[1]];
            if start > end || end as usize > ids.len() {
                return Err(Error::argument(format!("a unit of the tokens {start} to {end} in {} tokens", ids.len())));
            }
            places.extend((start..end).map(|t| Place { row: ids[t as usize], start, end, token: t }));
        }
        places.sort_unstable();

        let entries: Vec<&[Place]> = places.chunk_by(|a, b| (a.row, a.start) == (b.row, b.start)).collect();
        let rows: Vec<&[&[Place]]> = entries.chunk_by(|a, b| a[0].row == b[0].row).collect();
        let of_entries = |what: fn(&Place) -> u32| -> Vec<u32> { entries.iter().map(|e| what(&e[0])).collect() };
        Ok(RowIndex {
            rows: device.upload_new(&rows.iter().map(|r| r[0][0].row).collect::<Vec<u32>>())?,
            row_entries: device.upload_new(&offsets(rows.iter().map(|r| r.len())))?,
            entry_tokens: device.upload_new(&offsets(entries.iter().map(|e| e.len())))?,
            tokens: device.upload_new(&places.iter().map(|p| p.token).collect::<Vec<u32>>())?,
            entry_row: device.upload_new(&of_entries(|p| p.row))?,
            entry_segment_start: device.upload_new(&of_entries(|p| p.start))?,
            entry_segment_end: device.upload_new(&of_entries(|p| p.end))?,
            entries: entries.len(),
            distinct: rows.len(),
            token_count: places.len(),
            unit_tokens: entries.iter().map(|e| (e[0].end - e[0].start) as usize).sum(),
        })
    }

    /// Number of entries.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Number of tokens.
    pub fn token_count(&self) -> usize {
        self.token_count
    }

    /// Tokens of all entries' units together, a unit's counted for each of its entries.
    pub fn unit_tokens(&self) -> usize {
        self.unit_tokens
    }

    /// Number of distinct rows.
    pub fn rows(&self) -> usize {
        self.distinct
    }
}

/// One token of a batch, as the index is ordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    row: u32,
    /// The unit's tokens; units are in the order of their tokens.
    start: u32,
    end: u32,
    token: u32,
}

/// Where consecutive parts of these lengths begin, and where the last one ends.
fn offsets(lengths: impl Iterator<Item = usize>) -> Vec<u32> {
    let ends = lengths.scan(0, |end, length| {
        *end += length as u32;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// Those of the ascending `rows` that lie in a slice, as their numbers in `rows`, each with its part of `values`
/// `[slice_rows, columns]`.
fn rows_of_slice<'a>(
    rows: &[u32],
    first_row: u32,
    slice_rows: u32,
    columns: usize,
    values: &'a mut [f32],
) -> Vec<(usize, &'a mut [f32])> {
    let mut rest = values;
    let mut next = 0;
    let mut found = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let Some(row) = row.checked_sub(first_row).filter(|row| *row < slice_rows) else { continue };
        let row = row as usize;
        let (values, behind) = std::mem::take(&mut rest)[(row - next) * columns..].split_at_mut(columns);
        found.push((i, values));
        (rest, next) = (behind, row + 1);
    }
    found
}

/// What the CPU twins read of a [`RowIndex`] and the gradient at the embedding's output.
struct EntrySums<'a> {
    row_entries: &'a [u32],
    entry_tokens: &'a [u32],
    tokens: &'a [u32],
    delta: &'a [f32],
    delta_stride: usize,
    delta_offset: usize,
    columns: usize,
}

impl EntrySums<'_> {
    /// For row `i` of the index, piece of columns by piece: each entry in order, the first column of the piece, and the
    /// sums of the gradient over the entry's tokens.
    #[inline(always)]
    fn each(&self, i: usize, mut take: impl FnMut(usize, usize, &[f32])) {
        const PIECE: usize = 64;
        for first in (0..self.columns).step_by(PIECE) {
            let mut sums = [0.0; PIECE];
            let sums = &mut sums[..PIECE.min(self.columns - first)];
            for entry in self.row_entries[i] as usize..self.row_entries[i + 1] as usize {
                sums.fill(0.0);
                for t in &self.tokens[self.entry_tokens[entry] as usize..self.entry_tokens[entry + 1] as usize] {
                    let place = *t as usize * self.delta_stride + self.delta_offset + first;
                    for (sum, delta) in sums.iter_mut().zip(&self.delta[place..]) {
                        *sum += delta;
                    }
                }
                take(entry, first, sums);
            }
        }
    }
}
