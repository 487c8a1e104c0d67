// Four neighbouring elements of the operands and the result of a weight gradient, G[r, c] = Σ_t left[t, r] right[t, c]. Expects
// `left`, `right` and `result` (row-major, `rows` by `columns`) as Gradient elements, and `params` with rows, columns, and the
// strides and offsets of `left` and `right`. EDGES == none: rows and columns are whole tiles, strides and offsets whole
// vectors.

#if EDGES == none
alias Gradient = vec4<f32>;

fn left_elements(token: u32, r: u32) -> vec4<f32> {
    return left[(token * params.left_stride + params.left_offset + r) >> 2u];
}

fn right_elements(token: u32, c: u32) -> vec4<f32> {
    return right[(token * params.right_stride + params.right_offset + c) >> 2u];
}

fn first_elements(r: u32, c: u32) -> vec4<f32> {
    return result[(r * params.columns + c) >> 2u];
}

fn store_elements(r: u32, c: u32, values: vec4<f32>) {
    result[(r * params.columns + c) >> 2u] = values;
}
#else
alias Gradient = f32;

// Four neighbouring elements of a row of activations, zero where they lie beyond its `width`.
fn left_elements(token: u32, r: u32) -> vec4<f32> {
    let place = token * params.left_stride + params.left_offset + r;
    var elements = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if r + i < params.rows {
            elements[i] = left[place + i];
        }
    }
    return elements;
}

fn right_elements(token: u32, c: u32) -> vec4<f32> {
    let place = token * params.right_stride + params.right_offset + c;
    var elements = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if c + i < params.columns {
            elements[i] = right[place + i];
        }
    }
    return elements;
}

fn first_elements(r: u32, c: u32) -> vec4<f32> {
    var values = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if r < params.rows && c + i < params.columns {
            values[i] = result[r * params.columns + c + i];
        }
    }
    return values;
}

fn store_elements(r: u32, c: u32, values: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if r < params.rows && c + i < params.columns {
            result[r * params.columns + c + i] = values[i];
        }
    }
}
#endif
