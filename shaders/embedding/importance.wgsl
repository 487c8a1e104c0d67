// Importance of a table: a unit's gradient in row v is the sum of delta over the unit's tokens with the id v. One workgroup
// per distinct row; its units are accumulated in order, starting from the stored value.

#permute ACCUMULATE square magnitude sum

struct Params {
    first_row: u32,
    slice_rows: u32,
    columns: u32,
    stride: u32,
    offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// The distinct rows, and where each one's entries (a row and a unit) begin.
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> row_entries: array<u32>;
// Where each entry's tokens begin, and the tokens.
@group(0) @binding(3) var<storage, read> entry_tokens: array<u32>;
@group(0) @binding(4) var<storage, read> tokens: array<u32>;
@group(0) @binding(5) var<storage, read> delta: array<f32>;
@group(0) @binding(6) var<storage, read_write> importance: array<f32>;

#import accumulate

const WG_SIZE = 128u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = rows[group.x] - params.first_row;
    if row >= params.slice_rows {
        return;
    }
    for (var column = local; column < params.columns; column += WG_SIZE) {
        var value = importance[row * params.columns + column];
        for (var entry = row_entries[group.x]; entry < row_entries[group.x + 1u]; entry++) {
            var gradient = 0.0;
            for (var i = entry_tokens[entry]; i < entry_tokens[entry + 1u]; i++) {
                gradient += delta[tokens[i] * params.stride + params.offset + column];
            }
            value = accumulate(value, gradient);
        }
        importance[row * params.columns + column] = value;
    }
}
