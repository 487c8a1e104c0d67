// What the products of activations X with a stored matrix W have in common: parameters, bindings, and four neighbouring
// elements of each operand. Of W's sides, WIDTH is the result's and SUM is the one that is summed over. EDGES == none: the shape of W and the windows' strides and offsets are such that whole vectors
// lie within the matrices; only the last tokens' tile may be cut.

#import element

struct Params {
    tokens: u32,
    rows: u32,
    columns: u32,
    x_stride: u32,
    x_offset: u32,
    y_stride: u32,
    y_offset: u32,
    // 0: the sum starts from zero; 1: from the value stored in y.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#if EDGES == none
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
#if ELEMENT == f32
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;
#else
@group(0) @binding(2) var<storage, read> w: array<vec2<u32>>;
#endif
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

// A token beyond the last reads the last one: its sums are not stored.
fn x_elements(token: u32, column: u32) -> vec4<f32> {
    return x[(min(token, params.tokens - 1u) * params.x_stride + params.x_offset + column) >> 2u];
}

fn w_elements(row: u32, column: u32) -> vec4<f32> {
    return unpack_elements(w[(row * params.columns + column) >> 2u]);
}

fn y_elements(token: u32, column: u32) -> vec4<f32> {
    return y[(min(token, params.tokens - 1u) * params.y_stride + params.y_offset + column) >> 2u];
}

fn store_y(token: u32, column: u32, elements: vec4<f32>) {
    if token < params.tokens {
        y[(token * params.y_stride + params.y_offset + column) >> 2u] = elements;
    }
}
#else
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// Zero where they lie beyond the matrix.
fn x_elements(token: u32, column: u32) -> vec4<f32> {
    let place = token * params.x_stride + params.x_offset + column;
    var elements = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if token < params.tokens && column + i < params.#{SUM} {
            elements[i] = x[place + i];
        }
    }
    return elements;
}

fn w_elements(row: u32, column: u32) -> vec4<f32> {
    let place = row * params.columns + column;
    var elements = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if row < params.rows && column + i < params.columns {
            elements[i] = unpack_element(w[element_word(place + i)], element_half(place + i));
        }
    }
    return elements;
}

fn y_elements(token: u32, column: u32) -> vec4<f32> {
    let place = token * params.y_stride + params.y_offset + column;
    var elements = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if token < params.tokens && column + i < params.#{WIDTH} {
            elements[i] = y[place + i];
        }
    }
    return elements;
}

fn store_y(token: u32, column: u32, elements: vec4<f32>) {
    let place = token * params.y_stride + params.y_offset + column;
    for (var i = 0u; i < 4u; i++) {
        if token < params.tokens && column + i < params.#{WIDTH} {
            y[place + i] = elements[i];
        }
    }
}
#endif
