// Turns the importance of a head into that of a head tied to the embedding. The stored importance holds acc(H) of every
// unit; each entry (row, unit) adds acc(H + E) - acc(H), with H the head's gradient in that row and E the embedding's.

#permute ACCUMULATE square magnitude sum
#import flat_index

struct Params {
    // Distinct rows in the batch.
    distinct: u32,
    columns: u32,
    first_row: u32,
    slice_rows: u32,
    delta_stride: u32,
    delta_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> row_entries: array<u32>;
@group(0) @binding(3) var<storage, read> entry_tokens: array<u32>;
@group(0) @binding(4) var<storage, read> tokens: array<u32>;
@group(0) @binding(5) var<storage, read> delta: array<f32>;
@group(0) @binding(6) var<storage, read> head_rows: array<f32>;
@group(0) @binding(7) var<storage, read_write> importance: array<f32>;

const WG_SIZE = 256u;

fn correct(f: f32, h: f32, e: f32) -> f32 {
#if ACCUMULATE == square
    return fma(e, 2.0 * h + e, f);
#elif ACCUMULATE == magnitude
    return f + (abs(h + e) - abs(h));
#else
    return f + e;
#endif
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let k = flat_index(global, groups, WG_SIZE);
    if k >= params.distinct * params.columns {
        return;
    }
    let i = k / params.columns;
    let c = k % params.columns;
    // A row below the slice wraps around to a number beyond it.
    let row = rows[i] - params.first_row;
    if row >= params.slice_rows {
        return;
    }
    var f = importance[row * params.columns + c];
    for (var entry = row_entries[i]; entry < row_entries[i + 1u]; entry++) {
        var e = 0.0;
        for (var j = entry_tokens[entry]; j < entry_tokens[entry + 1u]; j++) {
            e += delta[tokens[j] * params.delta_stride + params.delta_offset + c];
        }
        f = correct(f, head_rows[entry * params.columns + c], e);
    }
    importance[row * params.columns + c] = f;
}
