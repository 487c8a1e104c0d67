// Importance of a table that is also the head. The head's part H has been accumulated already; with the embedding's part E
// of the same unit the gradient is H + E, so each entry adds what E changes: for squares (H+E)² − H² = E (2H + E).

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
// H in the row of each entry.
@group(0) @binding(6) var<storage, read> head_rows: array<f32>;
@group(0) @binding(7) var<storage, read_write> importance: array<f32>;

const WG_SIZE = 128u;

fn correction(known: f32, more: f32) -> f32 {
#if ACCUMULATE == square
    return more * (known + known + more);
#elif ACCUMULATE == magnitude
    return abs(known + more) - abs(known);
#else
    return more;
#endif
}

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
            value += correction(head_rows[entry * params.columns + column], gradient);
        }
        importance[row * params.columns + column] = value;
    }
}
