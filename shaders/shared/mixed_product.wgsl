// A product whose factors are rounded to half precision, and whose sums are not: row t of X times 2^exponents[t], W times
// 2^WEIGHT_EXPONENT, and the sums times the inverse of both, added to what is stored in Y or to zero.

#import product
#import half_scale
#if UNIT == emulated
#define TILE 64
#import product_tile
#else
#import matrix_product
#endif

@group(0) @binding(4) var<storage, read> exponents: array<i32>;

// Weights up to 255 stay in range, and those down to 2^-22 keep all digits.
const WEIGHT_EXPONENT = 8;

fn left_elements(token: u32, column: u32) -> vec4<f32> {
    return half_elements(x_elements(token, column) * power(exponents[min(token, params.tokens - 1u)]));
}

fn right_elements(row: u32, column: u32) -> vec4<f32> {
    return half_elements(w_elements(row, column) * power(WEIGHT_EXPONENT));
}

fn first_values(token: u32, column: u32) -> vec4<f32> {
    return y_elements(token, column);
}

fn store_values(token: u32, column: u32, sums: vec4<f32>) {
    var values = sums * power(-WEIGHT_EXPONENT) * power(-exponents[min(token, params.tokens - 1u)]);
    if params.accumulate == 1u {
        values += y_elements(token, column);
    }
    store_y(token, column, values);
}
