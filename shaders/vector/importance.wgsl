// Importance of a vector parameter: a unit's gradient is the sum of its rows of terms; units are accumulated in order,
// starting from the stored value. One workgroup per COLUMNS elements.

#permute ACCUMULATE square magnitude sum

struct Params {
    units: u32,
    rows_per_token: u32,
    width: u32,
    terms_stride: u32,
    terms_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> units: array<u32>;
@group(0) @binding(2) var<storage, read> terms: array<f32>;
@group(0) @binding(3) var<storage, read_write> importance: array<f32>;

#import accumulate
#import column_sums

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_column = group.x * COLUMNS;
    let column = first_column + local;
    var value = 0.0;
    if local < COLUMNS && column < params.width {
        value = importance[column];
    }
    for (var unit = 0u; unit < params.units; unit++) {
        let begin = units[unit] * params.rows_per_token;
        let end = units[unit + 1u] * params.rows_per_token;
        value = accumulate(value, column_sum(begin, end, first_column, local));
    }
    if local < COLUMNS && column < params.width {
        importance[column] = value;
    }
}
