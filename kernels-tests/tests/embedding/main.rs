//! Tests of the embedding kernels.
mod grads;
mod head_rows;
mod importance;
mod lookup;
mod tied_importance;

use kernels_tests::Random;

/// Random units of tokens over a small vocabulary, so that ids repeat within and across units.
struct Case {
    units: Vec<u32>,
    ids: Vec<u32>,
    vocabulary: usize,
    columns: usize,
}

impl Case {
    fn new(random: &mut Random) -> Self {
        let (tokens, vocabulary, columns) = (random.size(9, 60), random.size(3, 20), random.size(1, 200));
        let count = random.size(1, 6);
        let units = random.offsets(count, tokens);
        Case { units, ids: (0..tokens).map(|_| random.size(0, vocabulary - 1) as u32).collect(), vocabulary, columns }
    }

    /// The embedding's part of each unit's gradient, `[vocabulary, columns]`.
    fn gradients(&self, delta: &[f32]) -> Vec<Vec<f64>> {
        let of = |unit: &[u32]| {
            let mut gradient = vec![0.0; self.vocabulary * self.columns];
            for t in unit[0] as usize..unit[1] as usize {
                for i in 0..self.columns {
                    gradient[self.ids[t] as usize * self.columns + i] += f64::from(delta[t * self.columns + i]);
                }
            }
            gradient
        };
        self.units.windows(2).map(of).collect()
    }

    /// The head's part: `Σ_t logits_delta[t, v] activation[t]`.
    fn head_gradients(&self, logits_delta: &[f32], activation: &[f32]) -> Vec<Vec<f64>> {
        let of = |unit: &[u32]| {
            let mut gradient = vec![0.0; self.vocabulary * self.columns];
            for t in unit[0] as usize..unit[1] as usize {
                for v in 0..self.vocabulary {
                    for i in 0..self.columns {
                        gradient[v * self.columns + i] += f64::from(logits_delta[t * self.vocabulary + v])
                            * f64::from(activation[t * self.columns + i]);
                    }
                }
            }
            gradient
        };
        self.units.windows(2).map(of).collect()
    }
}
