//! Finding a NaN or an infinity among stored numbers without converting them: in each of the three formats a number
//! is finite unless all bits of its exponent are set.

use rayon::prelude::*;

use crate::Element;

/// Numbers that one task looks at.
const BLOCK: usize = 1 << 18;

/// The index of the first number of `bytes` that is NaN or infinite. Bytes after the last whole number are ignored.
pub(super) fn first_non_finite(element: Element, bytes: &[u8]) -> Option<usize> {
    match element {
        Element::F32 => first(bytes.as_chunks().0, |number| is_saturated(u32::from_le_bytes(number), 0x7f80_0000)),
        Element::F16 => first(bytes.as_chunks().0, |number| is_saturated(u16::from_le_bytes(number).into(), 0x7c00)),
        Element::Bf16 => first(bytes.as_chunks().0, |number| is_saturated(u16::from_le_bytes(number).into(), 0x7f80)),
    }
}

/// Whether all bits of the exponent are set.
fn is_saturated(bits: u32, exponent: u32) -> bool {
    bits & exponent == exponent
}

/// The index of the first number that `found` accepts.
fn first<const SIZE: usize>(numbers: &[[u8; SIZE]], found: impl Fn([u8; SIZE]) -> bool + Sync) -> Option<usize> {
    numbers.par_chunks(BLOCK).enumerate().find_map_first(|(block, numbers)| {
        // Without an early exit the loop is vectorised; the position is looked for only where there is one.
        let any = numbers.iter().fold(false, |any, &number| any | found(number));
        if !any {
            return None;
        }
        numbers.iter().position(|&number| found(number)).map(|index| block * BLOCK + index)
    })
}
