//! Weights rounded to few bits, as a source on top of another: round to nearest, symmetric. 8 bits: a scale for each row (as LLM.int8 has
//! it); 4 bits: a scale for each block of 64 weights along a row (as common 4-bit formats have it). The matrices of the layers are rounded;
//! embedding, head and vectors stay, as they do in those formats.

use std::sync::Arc;

use crate::model::Parameter;
use crate::model::parameters::Role;
use crate::model::weights::{HostBytes, WeightSource};
use crate::{Element, Result};

/// Weights that share a scale at 4 bits.
const BLOCK: usize = 64;

/// How many bits are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// 255 levels, a scale for each row.
    Eight,
    /// 15 levels, a scale for each block of 64.
    Four,
}

impl Bits {
    /// The number.
    pub fn number(self) -> u32 {
        match self {
            Bits::Eight => 8,
            Bits::Four => 4,
        }
    }

    /// Rounds a row in place.
    fn round(self, row: &mut [f32]) {
        let (block, levels) = match self {
            Bits::Eight => (row.len(), 127.0),
            Bits::Four => (BLOCK, 7.0),
        };
        for block in row.chunks_mut(block.max(1)) {
            let largest = block.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            if largest > 0.0 {
                let scale = largest / levels;
                block.iter_mut().for_each(|value| *value = (*value / scale).round_ties_even() * scale);
            }
        }
    }
}

/// The weights of another source, rounded.
#[derive(Debug)]
pub struct QuantisedWeights {
    base: Arc<dyn WeightSource>,
    bits: Bits,
}

impl QuantisedWeights {
    /// The weights of `base`, rounded to `bits`.
    pub fn new(base: Arc<dyn WeightSource>, bits: Bits) -> Self {
        QuantisedWeights { base, bits }
    }
}

impl WeightSource for QuantisedWeights {
    fn tensor(&self, parameter: &Parameter) -> Result<(Element, HostBytes)> {
        let (element, bytes) = self.base.tensor(parameter)?;
        if parameter.role != Role::Matrix || parameter.layer.is_none() {
            return Ok((element, bytes));
        }
        let mut values = vec![0.0; parameter.count()];
        element.decode(&bytes, &mut values)?;
        values.chunks_mut(parameter.columns().max(1)).for_each(|row| self.bits.round(row));
        Ok((element, Arc::new(element.encode(&values))))
    }

    fn element(&self, parameter: &Parameter) -> Result<Element> {
        self.base.element(parameter)
    }

    fn device_bytes(&self) -> u64 {
        self.base.device_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_hand() {
        let mut row = [1.27, -0.014, 0.005, 0.0];
        Bits::Eight.round(&mut row);
        // A step is 0.01: -1.4 steps are -1, half a step goes to the even 0.
        for (got, want) in row.iter().zip([1.27, -0.01, 0.0, 0.0]) {
            assert!((got - want).abs() < 1e-6 || (*got - 0.01).abs() < 1e-6 && want == 0.0, "{row:?}");
        }
        let mut row: Vec<f32> = (0..65).map(|i| if i == 64 { 100.0 } else { (i % 8) as f32 - 0.4 }).collect();
        Bits::Four.round(&mut row);
        // The outlier has a block of its own; in the first block, a step is 6.6 / 7.
        assert_eq!(row[64], 100.0);
        assert!((row[7] - 6.6).abs() < 1e-5 && row[0] == 0.0);
        assert!(row[..64].iter().all(|value| ((value / (6.6 / 7.0)).round() - value / (6.6 / 7.0)).abs() < 1e-4));
        let mut zeros = [0.0; 3];
        Bits::Four.round(&mut zeros);
        assert_eq!(zeros, [0.0; 3]);
    }
}
