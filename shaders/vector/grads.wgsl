// The gradient of a bias or gain for one unit: G[i] = Σ of terms[row, i] over the unit's rows.

#import column_sums

struct Params {
    // The unit's rows: begin .. end.
    begin: u32,
    end: u32,
    width: u32,
    terms_stride: u32,
    terms_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> terms: array<f32>;
@group(0) @binding(2) var<storage, read_write> grads: array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_column = group.x * COLUMNS;
    let column = first_column + local % COLUMNS;
    let sum = column_sum(params.begin, params.end, first_column, local);
    if local < COLUMNS && column < params.width {
        grads[column] = sum;
    }
}
