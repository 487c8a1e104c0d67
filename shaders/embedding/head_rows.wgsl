// The head's gradient in the rows of each unit's own tokens: for entry (row v, unit) of a batch,
// head_rows[entry, c] = Σ of delta[t, v] activation[t, c] over the unit's tokens t. Entries outside of the slice stay.

#import flat_index

struct Params {
    entries: u32,
    columns: u32,
    first_row: u32,
    slice_rows: u32,
    delta_stride: u32,
    delta_offset: u32,
    activation_stride: u32,
    activation_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> entry_row: array<u32>;
@group(0) @binding(2) var<storage, read> entry_segment_start: array<u32>;
@group(0) @binding(3) var<storage, read> entry_segment_end: array<u32>;
@group(0) @binding(4) var<storage, read> delta: array<f32>;
@group(0) @binding(5) var<storage, read> activation: array<f32>;
@group(0) @binding(6) var<storage, read_write> head_rows: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let k = flat_index(global, groups, WG_SIZE);
    if k >= params.entries * params.columns {
        return;
    }
    let entry = k / params.columns;
    let c = k % params.columns;
    // A row below the slice wraps around to a number beyond it.
    let row = entry_row[entry] - params.first_row;
    if row >= params.slice_rows {
        return;
    }
    var sum = 0.0;
    for (var t = entry_segment_start[entry]; t < entry_segment_end[entry]; t++) {
        let d = delta[t * params.delta_stride + params.delta_offset + row];
        sum = fma(d, activation[t * params.activation_stride + params.activation_offset + c], sum);
    }
    head_rows[k] = sum;
}
