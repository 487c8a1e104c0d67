//! How far the masks of several forms overlap.

/// The overlap of forms' masks, counted over all weights that may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The forms.
    pub forms: Vec<String>,
    /// `[i][j]`: weights that both masks select; `[i][i]`: those that the form's own does.
    pub common: Vec<Vec<u64>>,
}

impl Overlap {
    /// Of no weights yet.
    pub fn new(forms: Vec<String>) -> Self {
        let common = vec![vec![0; forms.len()]; forms.len()];
        Overlap { forms, common }
    }

    /// Adds the masks of the same weights, one for each form.
    pub fn add(&mut self, masks: &[Vec<u32>]) {
        for (row, first) in self.common.iter_mut().zip(masks) {
            for (common, second) in row.iter_mut().zip(masks) {
                *common += first.iter().zip(second).map(|(a, b)| u64::from((a & b).count_ones())).sum::<u64>();
            }
        }
    }

    /// Jaccard's index of two forms' masks, |A ∩ B| / |A ∪ B|; none where neither selects anything.
    pub fn jaccard(&self, i: usize, j: usize) -> Option<f64> {
        let common = self.common[i][j];
        let union = self.common[i][i] + self.common[j][j] - common;
        (union > 0).then(|| common as f64 / union as f64)
    }

    /// The mean of Jaccard's index over all pairs of forms that select anything.
    pub fn mean(&self) -> Option<f64> {
        let pairs = (0..self.forms.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
        let all: Vec<f64> = pairs.filter_map(|(i, j)| self.jaccard(i, j)).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: {0, 1, 2, 33}, {1, 2, 3}, {} over 34 weights, in two pieces.
    #[test]
    fn counts_of_a_made_up_example() {
        let mut overlap = Overlap::new(["a", "b", "c"].map(String::from).to_vec());
        overlap.add(&[vec![0b0111], vec![0b1110], vec![0]]);
        overlap.add(&[vec![0b10], vec![0], vec![0]]);
        assert_eq!(overlap.common, [[4, 2, 0], [2, 3, 0], [0, 0, 0]]);
        assert_eq!(
            [(0, 1), (0, 0), (0, 2), (2, 2)].map(|(i, j)| overlap.jaccard(i, j)),
            [Some(0.4), Some(1.0), Some(0.0), None]
        );
        assert_eq!(overlap.mean(), Some((0.4 + 0.0 + 0.0) / 3.0));
    }
}
