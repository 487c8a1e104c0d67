//! The three ways in which a checkpoint stores a number, and the conversions between them and `f32`.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::{Error, Result};

/// How a stored number is encoded (little-endian).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Element {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
}

impl Element {
    /// All element types, in the order in which shader permutations list them.
    pub const ALL: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];

    /// Bytes that one number takes.
    pub const fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
        }
    }

    /// The name in shader permutations and messages: `f32`, `f16`, `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
        }
    }

    /// The type's name in a safetensors header.
    pub const fn safetensors_name(self) -> &'static str {
        match self {
            Element::F32 => "F32",
            Element::F16 => "F16",
            Element::Bf16 => "BF16",
        }
    }

    /// Decodes `bytes` (any alignment) into `out`; both conversions to `f32` are exact.
    ///
    /// # Errors
    /// When the lengths do not match.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        if bytes.len() != out.len() * self.size() {
            return Err(Error::argument(format!(
                "{} bytes cannot hold {} {} numbers",
                bytes.len(),
                out.len(),
                self.name()
            )));
        }
        match self {
            Element::F32 => bytemuck::cast_slice_mut::<f32, u8>(out).copy_from_slice(bytes),
            Element::F16 => {
                // Whole slices are converted several at a time, which needs them aligned.
                if let Ok(halves) = bytemuck::try_cast_slice::<u8, f16>(bytes) {
                    halves.convert_to_f32_slice(out);
                    return Ok(());
                }
                for (value, pair) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f16::from_le_bytes(*pair).to_f32();
                }
            }
            Element::Bf16 => {
                for (value, pair) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*pair)) << 16);
                }
            }
        }
        Ok(())
    }

    /// Encodes `values`, rounding to nearest, ties to even.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Element::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Element::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            Element::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        }
    }
}
