// The head's part of a tied table's gradient in the rows of each unit's own tokens: for an entry (row v, unit n),
// Σ delta[t, v] activation[t] over the unit's tokens. One workgroup per entry whose row lies in this slice of the head.

struct Params {
    first_row: u32,
    slice_rows: u32,
    columns: u32,
    delta_stride: u32,
    delta_offset: u32,
    activation_stride: u32,
    activation_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// Row, first token and end of the unit, for each entry.
@group(0) @binding(1) var<storage, read> entries: array<u32>;
@group(0) @binding(2) var<storage, read> delta: array<f32>;
@group(0) @binding(3) var<storage, read> activation: array<f32>;
@group(0) @binding(4) var<storage, read_write> head_rows: array<f32>;

const WG_SIZE = 128u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = entries[group.x * 3u] - params.first_row;
    if row >= params.slice_rows {
        return;
    }
    for (var column = local; column < params.columns; column += WG_SIZE) {
        var sum = 0.0;
        for (var t = entries[group.x * 3u + 1u]; t < entries[group.x * 3u + 2u]; t++) {
            let factor = delta[t * params.delta_stride + params.delta_offset + row];
            sum = fma(factor, activation[t * params.activation_stride + params.activation_offset + column], sum);
        }
        head_rows[group.x * params.columns + column] = sum;
    }
}
