// Importances and their ratio, in arithmetic that has the same bits on every device: products and sums of normal numbers
// are rounded correctly everywhere, division is not, and subnormal numbers are zero on some devices.
//
// Numbers are handled as their bits, which for numbers that are not negative are ordered as the numbers are.

const INFINITY = 0x7f800000u;
const LARGEST = 0x7f7fffffu;
const MAGNITUDE = 0x7fffffffu;
const LEAST_NORMAL = 0x00800000u;
// 2^-125. Results below it count as zero: about the smallest normal number, devices differ in what they flush.
const LEAST_RESULT = 0x01000000u;
const FRACTION = 0x007fffffu;
const HIDDEN_BIT = 0x00800000u;

// A product of which the magnitude is not below the least result, or zero of the same sign.
fn flushed_product(a: f32, b: f32) -> f32 {
    let product = a * b;
    let bits = bitcast<u32>(product);
    return select(bitcast<f32>(bits & ~MAGNITUDE), product, (bits & MAGNITUDE) >= LEAST_RESULT);
}

// The bits of stored * scale; INFINITY or more where that is no importance: negative or not finite.
fn importance(stored: f32, scale: f32) -> u32 {
    let bits = bitcast<u32>(stored);
    if (bits & MAGNITUDE) < LEAST_NORMAL {
        return 0u;
    }
    if bits >= INFINITY {
        return bits;
    }
    return bitcast<u32>(flushed_product(stored, scale));
}

// The bits of blend * forget + (1 - blend) * retain.
fn blended(forget: u32, retain: u32, blend: f32) -> u32 {
    if forget >= INFINITY || retain >= INFINITY {
        return INFINITY;
    }
    let own = flushed_product(bitcast<f32>(forget), blend);
    let others = flushed_product(bitcast<f32>(retain), 1.0 - blend);
    return bitcast<u32>(own + others);
}

// The bits of a / b for normal a and b, correctly rounded; LARGEST where that overflows, 1 where it is below the least
// result. Long division: 24 digits after the first, 8 at a time, so that no remainder leaves 32 bits.
fn quotient(a: u32, b: u32) -> u32 {
    let divisor = (b & FRACTION) | HIDDEN_BIT;
    var remainder = (a & FRACTION) | HIDDEN_BIT;
    var exponent = i32(a >> 23u) - i32(b >> 23u) + 127;
    if remainder < divisor {
        remainder <<= 1u;
        exponent -= 1;
    }
    remainder -= divisor;
    var digits = 1u;
    for (var step = 0u; step < 3u; step++) {
        remainder <<= 8u;
        let next = remainder / divisor;
        digits = (digits << 8u) | next;
        remainder -= next * divisor;
    }
    if exponent <= 0 {
        return 1u;
    }
    if exponent > 254 {
        return LARGEST;
    }
    // One digit more than an f32 has decides, with what remains, about rounding.
    let up = (digits & 1u) == 1u && (remainder > 0u || (digits & 2u) == 2u);
    let bits = (u32(exponent) << 23u) + ((digits >> 1u) & FRACTION) + select(0u, 1u, up);
    if bits < LEAST_RESULT {
        return 1u;
    }
    return min(bits, LARGEST);
}

// The bits of forget / denominator for a forget importance above 0: infinity over 0, never 0.
fn ratio(forget: u32, denominator: u32) -> u32 {
    if denominator == 0u {
        return INFINITY;
    }
    return quotient(forget, denominator);
}
