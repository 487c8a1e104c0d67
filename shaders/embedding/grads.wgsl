// Adds one unit's embedding gradient to the stored values: grads[ids[t] - first_row, c] += delta[t, c].
// An invocation owns a column and takes the tokens in order, since one row may occur several times.

struct Params {
    // The unit's tokens: begin .. end.
    begin: u32,
    end: u32,
    columns: u32,
    first_row: u32,
    slice_rows: u32,
    delta_stride: u32,
    delta_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> delta: array<f32>;
@group(0) @binding(3) var<storage, read_write> grads: array<f32>;

const WG_SIZE = 64u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>) {
    let c = global.x;
    if c >= params.columns {
        return;
    }
    for (var t = params.begin; t < params.end; t++) {
        // A row below the slice wraps around to a number beyond it.
        let row = ids[t] - params.first_row;
        if row < params.slice_rows {
            grads[row * params.columns + c] += delta[t * params.delta_stride + params.delta_offset + c];
        }
    }
}
