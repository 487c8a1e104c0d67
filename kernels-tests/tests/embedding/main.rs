//! Tests of the embedding kernels, and of the index of a batch's rows that they share.
mod grads;
mod head_rows;
mod importance;
mod lookup;
mod tied_importance;

use std::collections::BTreeMap;

use efface::device::{Buffer, Device};
use efface::kernels::Accumulate;
use efface::kernels::embedding::RowIndex;
use kernels_tests::Random;

/// A ragged batch of token ids, few enough of them that units repeat and share rows.
struct Batch {
    vocabulary: usize,
    offsets: Vec<u32>,
    ids: Vec<u32>,
}

impl Batch {
    fn new(random: &mut Random) -> Self {
        let (tokens, vocabulary) = (random.size(6, 60), random.size(3, 40));
        let units = random.size(2, 6);
        let offsets = random.offsets(units, tokens);
        let ids = (0..tokens).map(|_| random.size(0, vocabulary - 1) as u32).collect();
        Batch { vocabulary, offsets, ids }
    }

    /// Token ranges of the units.
    fn units(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.offsets.windows(2).map(|unit| unit[0] as usize..unit[1] as usize)
    }

    /// The entries in their order, each with its unit's range: the definition, by sorted maps.
    fn entries(&self) -> BTreeMap<(u32, usize), std::ops::Range<usize>> {
        let units = self.units().enumerate();
        units.flat_map(|(n, unit)| unit.clone().map(move |t| ((self.ids[t], n), unit.clone()))).collect()
    }

    /// `E` `[columns]` of a unit in a row: the gradient over the unit's tokens that are this row.
    fn embedding_gradient(&self, unit: std::ops::Range<usize>, row: u32, delta: &[Vec<f64>]) -> Vec<f64> {
        let mut e = vec![0.0; delta[0].len()];
        for t in unit.filter(|t| self.ids[*t] == row) {
            e.iter_mut().zip(&delta[t]).for_each(|(e, delta)| *e += delta);
        }
        e
    }

    /// A slice of the table, from somewhere to its end.
    fn slice(&self, random: &mut Random) -> (usize, usize) {
        let first = random.size(0, self.vocabulary - 1);
        (first, self.vocabulary - first)
    }
}

/// What becomes of a unit's gradient, in float64.
fn accumulated(accumulate: Accumulate, gradient: f64) -> f64 {
    match accumulate {
        Accumulate::Square => gradient.powi(2),
        Accumulate::Magnitude => gradient.max(-gradient),
        Accumulate::Sum => gradient,
    }
}

/// The columns of a window, token by token, as float64.
fn dense(values: &[f32], stride: usize, offset: usize, width: usize) -> Vec<Vec<f64>> {
    values.chunks(stride).map(|row| row[offset..offset + width].iter().map(|v| f64::from(*v)).collect()).collect()
}

/// An index's buffer on the CPU device, as numbers.
fn numbers(device: &Device, buffer: &Buffer) -> Vec<u32> {
    device.read(buffer, buffer.bytes() as usize / 4).unwrap()
}

#[test]
fn an_index_lists_entries_by_row_and_unit() {
    let mut random = Random::new("embedding index");
    let device = Device::cpu(u64::MAX);
    for _ in 0..20 {
        let batch = Batch::new(&mut random);
        let index = RowIndex::new(&device, &batch.offsets, &batch.ids).unwrap();
        let entries = batch.entries();
        assert_eq!(index.entries(), entries.len());
        let rows: Vec<u32> = numbers(&device, &index.rows);
        assert_eq!(index.rows(), rows.len());
        assert!(rows.is_sorted_by(|a, b| a < b));
        let [row_entries, entry_tokens, tokens, entry_row, starts, ends] = [
            &index.row_entries,
            &index.entry_tokens,
            &index.tokens,
            &index.entry_row,
            &index.entry_segment_start,
            &index.entry_segment_end,
        ]
        .map(|buffer| numbers(&device, buffer));
        assert_eq!((row_entries.len(), entry_tokens.len()), (rows.len() + 1, entries.len() + 1));
        assert_eq!((row_entries[0], row_entries[rows.len()] as usize), (0, entries.len()));
        for (e, ((row, _), unit)) in entries.iter().enumerate() {
            assert_eq!((entry_row[e], starts[e] as usize, ends[e] as usize), (*row, unit.start, unit.end));
            let i = rows.binary_search(row).unwrap();
            assert!((row_entries[i]..row_entries[i + 1]).contains(&(e as u32)));
            let want: Vec<u32> = unit.clone().filter(|t| batch.ids[*t] == *row).map(|t| t as u32).collect();
            assert_eq!(tokens[entry_tokens[e] as usize..entry_tokens[e + 1] as usize], want);
        }
    }
}

#[test]
fn an_index_of_offsets_beyond_the_tokens_is_refused() {
    let device = Device::cpu(u64::MAX);
    for offsets in [&[0, 3, 6][..], &[0, 4, 2, 5]] {
        let error = RowIndex::new(&device, offsets, &[1, 2, 3, 4, 5]).unwrap_err();
        assert!(error.to_string().contains("5 tokens"), "{error}");
    }
    let empty = RowIndex::new(&device, &[0], &[]).unwrap();
    assert_eq!((empty.entries(), empty.rows()), (0, 0));
}
