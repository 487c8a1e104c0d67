// The importance of a bias or gain: f[i] = accumulate over units n of G_n[i] = Σ of terms[row, i] over the unit's rows.
// One workgroup owns its columns for all units and takes the units in order, starting from the stored value.

#permute ACCUMULATE square magnitude sum
#import accumulate
#import column_sums

struct Params {
    // Units: the tokens offsets[n] .. offsets[n + 1] are one.
    units: u32,
    rows_per_token: u32,
    width: u32,
    terms_stride: u32,
    terms_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>;
@group(0) @binding(2) var<storage, read> terms: array<f32>;
@group(0) @binding(3) var<storage, read_write> importance: array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_column = group.x * COLUMNS;
    let column = first_column + local % COLUMNS;
    var f = 0.0;
    if column < params.width {
        f = importance[column];
    }
    for (var n = 0u; n < params.units; n++) {
        let begin = offsets[n] * params.rows_per_token;
        let end = offsets[n + 1u] * params.rows_per_token;
        f = accumulate(f, column_sum(begin, end, first_column, local));
    }
    if local < COLUMNS && column < params.width {
        importance[column] = f;
    }
}
