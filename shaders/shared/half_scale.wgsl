// Powers of two that bring numbers into the range of half precision and back: exact in single precision.

fn power(exponent: i32) -> f32 {
    return bitcast<f32>(u32(exponent + 127) << 23u);
}

// Numbers as matrix units take them: staging rounds to half precision, or, where these units are emulated, this does.
fn half_elements(elements: vec4<f32>) -> vec4<f32> {
#if UNIT == emulated
    return quantizeToF16(elements);
#else
    return elements;
#endif
}
