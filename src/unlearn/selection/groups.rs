//! Selection of rows, columns, heads or tensors instead of single weights: importances are summed over a group, and the
//! whole group is selected or none of it.

use super::LogRatioHistogram;
use crate::{Error, Result};

/// What is selected together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// Every weight for itself.
    Element,
    /// A row of the stored matrix. A vector is a column: each of its elements is a row.
    Row,
    /// A column of the stored matrix.
    Column,
    /// An attention head: the rows or columns of a projection that belong to it.
    Head,
    /// The whole tensor.
    Tensor,
}

/// Along which axis of a stored projection its heads lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Heads are blocks of rows: query, key and value projections stored `[out, in]`.
    Rows,
    /// Heads are blocks of columns: an output projection stored `[out, in]`.
    Columns,
}

/// The heads of a projection. A key or value head that several query heads share is one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Rows or columns that belong to a head.
    pub dim: usize,
    /// Which of the two.
    pub axis: Axis,
}

/// A tensor cut into equal blocks: groups are numbered along the rows of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    rows: usize,
    columns: usize,
    height: usize,
    width: usize,
}

/// Importances of a group: means over samples, summed over its weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupScore {
    /// For the forget set.
    pub forget: f64,
    /// For the retain set.
    pub retain: f64,
}

impl Grouping {
    /// How a tensor of this shape is cut. `heads`: where they lie, if the tensor has any. A tensor with more than two axes
    /// counts as a matrix of which all but the first are columns.
    ///
    /// # Errors
    /// When heads are asked for and the tensor has none, or none that fit.
    pub fn new(granularity: Granularity, shape: &[usize], heads: Option<Heads>) -> Result<Self> {
        let rows = shape.first().copied().unwrap_or(1);
        let columns: usize = shape.iter().skip(1).product();
        let (height, width) = match granularity {
            Granularity::Element => (1, 1),
            Granularity::Row => (1, columns),
            Granularity::Column => (rows, 1),
            Granularity::Tensor => (rows, columns),
            Granularity::Head => match heads {
                Some(Heads { dim, axis: Axis::Rows }) => (dim, columns),
                Some(Heads { dim, axis: Axis::Columns }) => (rows, dim),
                None => return Err(Error::argument(format!("a tensor of shape {shape:?} has no attention heads"))),
            },
        };
        if rows * columns > 0 && !(rows.is_multiple_of(height) && columns.is_multiple_of(width)) {
            return Err(Error::argument(format!(
                "heads of {} do not divide a tensor of shape {shape:?}",
                heads.map_or(0, |heads| heads.dim)
            )));
        }
        Ok(Grouping { rows, columns, height: height.max(1), width: width.max(1) })
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        (self.rows / self.height) * (self.columns / self.width)
    }

    /// Weights of each group.
    pub fn group_size(&self) -> usize {
        self.height * self.width
    }

    /// The groups' importances, from stored sums of which `forget_scale` and `retain_scale` make means.
    ///
    /// # Errors
    /// When there are not as many sums as weights.
    pub fn scores(
        &self,
        forget: &[f32],
        forget_scale: f64,
        retain: &[f32],
        retain_scale: f64,
    ) -> Result<Vec<GroupScore>> {
        let count = self.rows * self.columns;
        if forget.len() != count || retain.len() != count {
            return Err(Error::argument(format!(
                "{} and {} importances are not those of {count} weights",
                forget.len(),
                retain.len()
            )));
        }
        let mut scores = vec![GroupScore::default(); self.groups()];
        for (i, (forget, retain)) in forget.iter().zip(retain).enumerate() {
            let score = &mut scores[self.group(i)];
            score.forget += f64::from(*forget);
            score.retain += f64::from(*retain);
        }
        for score in &mut scores {
            score.forget *= forget_scale;
            score.retain *= retain_scale;
        }
        Ok(scores)
    }

    /// Counts the groups' weights by their groups' ratios.
    pub fn count(&self, scores: &[GroupScore], blend: f32, histogram: &mut LogRatioHistogram) {
        for score in scores {
            histogram.record(score.ratio(blend), self.group_size() as u64);
        }
    }

    /// The mask of the groups with a ratio above `threshold`.
    pub fn select(&self, scores: &[GroupScore], blend: f32, threshold: f32) -> Vec<u32> {
        self.mask(|group| scores.get(group).and_then(|s| s.ratio(blend)).is_some_and(|ratio| ratio > threshold))
    }

    /// The mask of the groups for which `chosen` holds: bit `i % 32` of word `i / 32` for weight `i`.
    pub fn mask(&self, chosen: impl Fn(usize) -> bool) -> Vec<u32> {
        let chosen: Vec<bool> = (0..self.groups()).map(chosen).collect();
        let count = self.rows * self.columns;
        let mut mask = vec![0; count.div_ceil(32)];
        for i in (0..count).filter(|i| chosen[self.group(*i)]) {
            mask[i / 32] |= 1 << (i % 32);
        }
        mask
    }

    /// The group of weight `i`.
    fn group(&self, i: usize) -> usize {
        let (row, column) = (i / self.columns, i % self.columns);
        row / self.height * (self.columns / self.width) + column / self.width
    }
}

impl GroupScore {
    /// F_f / F with F = blend F_f + (1 - blend) F_r, rounded as single weights' ratios are: 0 only for F_f = 0, infinite
    /// only for F = 0, `None` where both are 0, NaN where a sum is negative or not finite.
    pub fn ratio(&self, blend: f32) -> Option<f32> {
        let blend = f64::from(blend);
        let compared = blend * self.forget + (1.0 - blend) * self.retain;
        let valid = |sum: f64| sum.is_finite() && sum >= 0.0;
        if !(valid(self.forget) && valid(self.retain)) {
            return Some(f32::NAN);
        }
        match (self.forget, compared) {
            (0.0, 0.0) => None,
            (0.0, _) => Some(0.0),
            (_, 0.0) => Some(f32::INFINITY),
            (forget, compared) => Some(((forget / compared) as f32).clamp(f32::from_bits(1), f32::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: Option<Heads> = Some(Heads { dim: 2, axis: Axis::Columns });

    fn members(grouping: &Grouping, group: usize) -> Vec<usize> {
        let mask = grouping.mask(|g| g == group);
        (0..grouping.rows * grouping.columns).filter(|i| mask[i / 32] >> (i % 32) & 1 == 1).collect()
    }

    #[test]
    fn groups_hold_the_weights_that_belong_together() {
        let grouping = |granularity, heads| Grouping::new(granularity, &[4, 6], heads).unwrap();
        assert_eq!(members(&grouping(Granularity::Element, None), 7), [7]);
        assert_eq!(members(&grouping(Granularity::Row, None), 1), [6, 7, 8, 9, 10, 11]);
        assert_eq!(members(&grouping(Granularity::Column, None), 2), [2, 8, 14, 20]);
        assert_eq!(members(&grouping(Granularity::Tensor, None), 0), (0..24).collect::<Vec<_>>());
        assert_eq!(members(&grouping(Granularity::Head, HEADS), 1), [2, 3, 8, 9, 14, 15, 20, 21]);
        let rows = Some(Heads { dim: 2, axis: Axis::Rows });
        assert_eq!(members(&grouping(Granularity::Head, rows), 1), (12..24).collect::<Vec<_>>());
        // The last word of a mask has no bits beyond the last weight, and a vector's elements are rows.
        let vector = Grouping::new(Granularity::Row, &[40], None).unwrap();
        assert_eq!((vector.groups(), vector.mask(|_| true)), (40, vec![u32::MAX, 255]));
        assert_eq!(Grouping::new(Granularity::Row, &[0, 5], None).unwrap().mask(|_| true), Vec::<u32>::new());
        assert_eq!(Grouping::new(Granularity::Column, &[3, 2, 2], None).unwrap().groups(), 4);
        assert!(Grouping::new(Granularity::Head, &[4, 6], None).is_err());
        assert!(Grouping::new(Granularity::Head, &[4, 5], HEADS).is_err());
        assert!(Grouping::new(Granularity::Head, &[4, 6], Some(Heads { dim: 0, axis: Axis::Rows })).is_err());
    }

    #[test]
    fn scores_are_sums_and_ratios_select() {
        let grouping = Grouping::new(Granularity::Row, &[4, 3], None).unwrap();
        let forget = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let retain = [4.0, 4.0, 4.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let scores = grouping.scores(&forget, 0.5, &retain, 0.25).unwrap();
        assert_eq!(scores[0], GroupScore { forget: 3.0, retain: 3.0 });
        let ratios: Vec<Option<f32>> = scores.iter().map(|s| s.ratio(0.0)).collect();
        assert_eq!(ratios, [Some(1.0), Some(0.0), Some(f32::INFINITY), None]);
        assert_eq!(scores[2].ratio(0.25), Some(4.0));
        assert_eq!(grouping.select(&scores, 0.0, 0.5), [0b0001_1100_0111]);
        let mut histogram = LogRatioHistogram::new();
        grouping.count(&scores, 0.0, &mut histogram);
        assert_eq!((histogram.total(), histogram.selected(0.5), histogram.needed()), (12, 6.0, 6));
        assert!(GroupScore { forget: f64::NAN, retain: 1.0 }.ratio(0.0).is_some_and(f32::is_nan));
        assert!(GroupScore { forget: 1.0, retain: -1.0 }.ratio(0.0).is_some_and(f32::is_nan));
        assert!(grouping.scores(&forget[1..], 1.0, &retain, 1.0).is_err());
    }
}
