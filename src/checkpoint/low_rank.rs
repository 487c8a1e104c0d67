//! A change of low rank of a stored matrix: two factors instead of a value for every element. It is added and taken back in the
//! same order of operations wherever and whenever, so that a patch that holds the factors makes the same bits again.

use rayon::prelude::*;

use crate::{Element, Error, Result};

/// ΔW = left · rightᵀ of a matrix `[rows, columns]` as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    rows: usize,
    columns: usize,
    rank: usize,
    /// `[rows, rank]`.
    left: Vec<f32>,
    /// `[rank, columns]`: transposed, so that a row of the change is made of whole rows.
    right: Vec<f32>,
}

impl LowRank {
    /// A change of these factors: `left` `[rows, rank]` and `right` `[columns, rank]`.
    ///
    /// # Errors
    /// When there are not as many numbers.
    pub fn new([rows, columns, rank]: [usize; 3], left: Vec<f32>, right: &[f32]) -> Result<Self> {
        let counts = (rows.checked_mul(rank), columns.checked_mul(rank));
        if counts != (Some(left.len()), Some(right.len())) {
            return Err(Error::argument(format!(
                "{} and {} numbers are no factors of rank {rank} of a matrix [{rows}, {columns}]",
                left.len(),
                right.len()
            )));
        }
        let turned = (0..rank).flat_map(|k| (0..columns).map(move |c| right[c * rank + k])).collect();
        Ok(LowRank { rows, columns, rank, left, right: turned })
    }

    /// Rows, columns and rank.
    pub fn shape(&self) -> [usize; 3] {
        [self.rows, self.columns, self.rank]
    }

    /// The factors as [`LowRank::new`] takes them.
    pub fn factors(&self) -> (&[f32], Vec<f32>) {
        let right = (0..self.columns).flat_map(|c| (0..self.rank).map(move |k| self.right[k * self.columns + c]));
        (&self.left, right.collect())
    }

    /// The stored matrix with the change.
    ///
    /// # Errors
    /// When `bytes` are not those of such a matrix.
    pub fn add(&self, element: Element, bytes: &[u8]) -> Result<Vec<u8>> {
        self.moved(element, bytes, 1.0)
    }

    /// The stored matrix without it. Rounding may leave some elements off by a little.
    ///
    /// # Errors
    /// When `bytes` are not those of such a matrix.
    pub fn take_back(&self, element: Element, bytes: &[u8]) -> Result<Vec<u8>> {
        self.moved(element, bytes, -1.0)
    }

    /// In double precision, term after term in the order of the rank, rounded once.
    fn moved(&self, element: Element, bytes: &[u8], sign: f64) -> Result<Vec<u8>> {
        let mut values = vec![0.0; self.rows * self.columns];
        element.decode(bytes, &mut values)?;
        if self.columns > 0 && self.rank > 0 {
            let rows = values.par_chunks_mut(self.columns).zip(self.left.par_chunks(self.rank));
            rows.for_each_init(
                || vec![0.0f64; self.columns],
                |change, (values, left)| {
                    change.fill(0.0);
                    for (left, right) in left.iter().zip(self.right.chunks(self.columns)) {
                        let left = f64::from(*left);
                        change.iter_mut().zip(right).for_each(|(sum, right)| *sum += left * f64::from(*right));
                    }
                    let moved = |(value, change): (&mut f32, &f64)| *value = (f64::from(*value) + sign * change) as f32;
                    values.iter_mut().zip(&*change).for_each(moved);
                },
            );
        }
        Ok(element.encode(&values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_change_is_the_product_rounded_once_and_nearly_comes_back() {
        let mut random = Random::new(std::process::id().into(), "low rank");
        for (rows, columns, rank) in [(1, 1, 1), (7, 13, 3), (33, 5, 9), (4, 6, 0)] {
            let mut draw =
                |count: usize| -> Vec<f32> { (0..count).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect() };
            let (left, right, values) = (draw(rows * rank), draw(columns * rank), draw(rows * columns));
            let change = LowRank::new([rows, columns, rank], left.clone(), &right).unwrap();
            assert_eq!(change.factors(), (&left[..], right.clone()));
            for element in [Element::F32, Element::Bf16, Element::F16] {
                let stored = element.encode(&values);
                let mut old = vec![0.0; rows * columns];
                element.decode(&stored, &mut old).unwrap();
                let want: Vec<f32> = (0..rows * columns)
                    .map(|i| {
                        let (r, c) = (i / columns, i % columns);
                        let terms = (0..rank).map(|k| f64::from(left[r * rank + k]) * f64::from(right[c * rank + k]));
                        (f64::from(old[i]) + terms.sum::<f64>()) as f32
                    })
                    .collect();
                let added = change.add(element, &stored).unwrap();
                assert_eq!(added, element.encode(&want), "{element:?}");
                let mut back = vec![0.0f32; rows * columns];
                element.decode(&change.take_back(element, &added).unwrap(), &mut back).unwrap();
                assert!(back.iter().zip(&old).all(|(back, old)| (back - old).abs() < 0.1), "{element:?}");
            }
            assert!(change.add(Element::F32, &[0; 3]).is_err());
        }
        assert!(LowRank::new([2, 2, 1], vec![0.0; 2], &[0.0; 3]).unwrap_err().is_input());
        assert!(LowRank::new([usize::MAX, 2, 2], vec![], &[]).unwrap_err().is_input());
    }
}
