// Writes one number into a word of a weight buffer that is declared as array<u32>, whatever its element type. The other
// half of the word keeps its bits. Rounds once, to nearest, ties to even.

#if ELEMENT == f32
const ELEMENTS_PER_WORD = 1u;
#else
const ELEMENTS_PER_WORD = 2u;
#endif

#if ELEMENT == f16
const F16_INFINITY = 0x7c00u;
const F16_QUIET = 0x0200u;
// The bits of f32 numbers: the smallest normal f16, half of the smallest subnormal one, and 2^16, where even the numbers
// that would round down are out of range.
const LEAST_NORMAL_F16 = 0x38800000u;
const HALF_LEAST_SUBNORMAL_F16 = 0x33000000u;
const BEYOND_F16 = 0x47800000u;
// From the exponent of an f32 to that of an f16, in the place of the f32's.
const EXPONENT_DIFFERENCE = 112u << 23u;

// The bits of the f16 that is nearest to a number.
fn element_bits(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude > 0x7f800000u {
        return sign | F16_INFINITY | F16_QUIET | ((magnitude >> 13u) & 0x3ffu);
    }
    if magnitude >= BEYOND_F16 {
        return sign | F16_INFINITY;
    }
    if magnitude >= LEAST_NORMAL_F16 {
        // A carry out of the fraction is the next exponent, and beyond the largest number it is infinity.
        let rounded = magnitude + 0xfffu + ((magnitude >> 13u) & 1u);
        return sign | ((rounded - EXPONENT_DIFFERENCE) >> 13u);
    }
    if magnitude <= HALF_LEAST_SUBNORMAL_F16 {
        return sign;
    }
    let fraction = (magnitude & 0x7fffffu) | 0x800000u;
    let shift = 126u - (magnitude >> 23u);
    let kept = fraction >> shift;
    let rest = fraction & ((1u << shift) - 1u);
    let halfway = 1u << (shift - 1u);
    let up = rest > halfway || (rest == halfway && (kept & 1u) == 1u);
    return sign | (kept + select(0u, 1u, up));
}
#elif ELEMENT == bf16
// The bits of the bf16 that is nearest to a number.
fn element_bits(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return (bits >> 16u) | 0x40u;
    }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
#endif

fn pack_element(word: u32, half: u32, value: f32) -> u32 {
#if ELEMENT == f32
    return bitcast<u32>(value);
#else
    return insertBits(word, element_bits(value), 16u * half, 16u);
#endif
}
