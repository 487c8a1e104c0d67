//! Kernels of embedding tables, tied to the head or not.

pub mod grads;
pub mod head_rows;
pub mod importance;
pub mod lookup;
pub mod tied_importance;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::Kernel;

/// The family's kernels.
pub const KERNELS: &[Kernel] =
    &[grads::KERNEL, head_rows::KERNEL, importance::KERNEL, lookup::KERNEL, tied_importance::KERNEL];

/// What a batch's token ids mean for a gradient that is non-zero only in the rows of its tokens. An *entry* is a row and a
/// unit that has tokens with this id; entries are ordered by row, then by unit.
#[derive(Debug)]
pub struct RowIndex {
    rows: Buffer,
    row_entries: Buffer,
    entry_tokens: Buffer,
    tokens: Buffer,
    /// Row, first token and end of the unit, for each entry.
    entries: Buffer,
    row_count: usize,
    entry_count: usize,
}

impl RowIndex {
    /// Indexes `ids`, whose units lie at `units[n] .. units[n + 1]`.
    ///
    /// # Errors
    /// When the device has no room for it or failed.
    pub fn new(device: &Device, units: &[u32], ids: &[u32]) -> Result<RowIndex> {
        let mut order: Vec<(u32, u32, u32)> = Vec::with_capacity(ids.len());
        for (unit, ends) in units.windows(2).enumerate() {
            order.extend((ends[0]..ends[1]).map(|token| (ids[token as usize], unit as u32, token)));
        }
        order.sort_unstable();
        let (mut rows, mut row_entries, mut entry_tokens, mut entries) = (vec![], vec![], vec![], vec![]);
        let mut last = None;
        for (place, (row, unit, _)) in order.iter().enumerate() {
            if rows.last() != Some(row) {
                rows.push(*row);
                row_entries.push(entry_tokens.len() as u32);
            }
            if last != Some((*row, *unit)) {
                last = Some((*row, *unit));
                entry_tokens.push(place as u32);
                entries.extend([*row, units[*unit as usize], units[*unit as usize + 1]]);
            }
        }
        row_entries.push(entry_tokens.len() as u32);
        entry_tokens.push(order.len() as u32);
        let tokens: Vec<u32> = order.iter().map(|(_, _, token)| *token).collect();
        Ok(RowIndex {
            row_count: rows.len(),
            entry_count: entry_tokens.len() - 1,
            rows: device.upload_new(&rows)?,
            row_entries: device.upload_new(&row_entries)?,
            entry_tokens: device.upload_new(&entry_tokens)?,
            tokens: device.upload_new(&tokens)?,
            entries: device.upload_new(&entries)?,
        })
    }

    /// Number of entries, at most one for each token.
    pub fn entries(&self) -> usize {
        self.entry_count
    }

    /// Number of distinct rows.
    pub fn rows(&self) -> usize {
        self.row_count
    }
}
