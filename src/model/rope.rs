//! Rotary position embedding (Su et al. 2021): the table of angles, with the scalings that Hugging Face configs name.

use std::f64::consts::TAU;

/// The angles of a rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Width of a head; pair `i` of it turns by `theta^(-2i / head_dim)` a position.
    pub head_dim: usize,
    /// How frequencies are changed for a longer context.
    pub scaling: RopeScaling,
}

/// How a model's frequencies were changed for a longer context than it was first trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All divided by the factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided, short ones kept, those between blended.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above `original_context / low_frequency_factor` are divided.
        low_frequency_factor: f64,
        /// Wavelengths below `original_context / high_frequency_factor` are kept.
        high_frequency_factor: f64,
        /// The context before the extension.
        original_context: f64,
    },
}

impl Rope {
    /// The turn per position of each pair, in radians: `[head_dim / 2]`. Rounded to `f32`, as models are trained with it.
    pub fn frequencies(&self) -> Vec<f32> {
        (0..self.head_dim / 2)
            .map(|i| self.scaled(f64::from(self.theta.powf(-(2.0 * i as f64) / self.head_dim as f64) as f32)) as f32)
            .collect()
    }

    fn scaled(&self, frequency: f64) -> f64 {
        match self.scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context } => {
                let turns = original_context * frequency / TAU;
                if turns < low_frequency_factor {
                    frequency / factor
                } else if turns > high_frequency_factor {
                    frequency
                } else {
                    let kept = (turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor);
                    (1.0 - kept) * frequency / factor + kept * frequency
                }
            }
        }
    }

    /// Cosine and sine for every position and pair: `[positions, head_dim / 2, 2]`.
    pub fn table(&self, positions: usize) -> Vec<f32> {
        let frequencies = self.frequencies();
        (0..positions)
            .flat_map(|position| {
                frequencies.iter().flat_map(move |frequency| {
                    let angle = position as f64 * f64::from(*frequency);
                    [angle.cos() as f32, angle.sin() as f32]
                })
            })
            .collect()
    }
}
