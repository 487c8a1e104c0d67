// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): 128 random bits for a counter and a
// key, the same on every device.

const PHILOX_ROUNDS = 10u;
const PHILOX_MULTIPLIERS = vec2<u32>(0xd2511f53u, 0xcd9e8d57u);
const PHILOX_WEYL = vec2<u32>(0x9e3779b9u, 0xbb67ae85u);

// The upper 32 bits of a product of two 32-bit numbers.
fn multiply_high(a: u32, b: u32) -> u32 {
    let a_low = a & 0xffffu;
    let a_high = a >> 16u;
    let b_low = b & 0xffffu;
    let b_high = b >> 16u;
    let middle = a_high * b_low + ((a_low * b_low) >> 16u);
    let carry = a_low * b_high + (middle & 0xffffu);
    return a_high * b_high + (middle >> 16u) + (carry >> 16u);
}

fn philox(first_counter: vec4<u32>, first_key: vec2<u32>) -> vec4<u32> {
    var counter = first_counter;
    var key = first_key;
    for (var round = 0u; round < PHILOX_ROUNDS; round++) {
        let high0 = multiply_high(PHILOX_MULTIPLIERS.x, counter.x);
        let high1 = multiply_high(PHILOX_MULTIPLIERS.y, counter.z);
        counter = vec4<u32>(
            high1 ^ counter.y ^ key.x,
            PHILOX_MULTIPLIERS.y * counter.z,
            high0 ^ counter.w ^ key.y,
            PHILOX_MULTIPLIERS.x * counter.x,
        );
        key += PHILOX_WEYL;
    }
    return counter;
}
