// Reads one stored number of a weight buffer that is declared as array<u32>, whatever its element type.

fn unpack_element(word: u32, half: u32) -> f32 {
#if ELEMENT == f32
    return bitcast<f32>(word);
#elif ELEMENT == f16
    return unpack2x16float(word)[half];
#else
    // bf16 is the upper half of an f32: moving it there is exact.
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, half == 1u));
#endif
}

// The buffer's word that holds element `index`, and which half of it.
fn element_word(index: u32) -> u32 {
#if ELEMENT == f32
    return index;
#else
    return index >> 1u;
#endif
}

fn element_half(index: u32) -> u32 {
#if ELEMENT == f32
    return 0u;
#else
    return index & 1u;
#endif
}

// Four neighbouring elements, from the vector of words that holds them.
#if ELEMENT == f32
fn unpack_elements(words: vec4<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(words);
}
#elif ELEMENT == f16
fn unpack_elements(words: vec2<u32>) -> vec4<f32> {
    return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
}
#else
fn unpack_elements(words: vec2<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}
#endif
