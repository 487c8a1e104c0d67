// The weight gradient of one unit, G[r, c] = Σ_t left[t, r] right[t, c]: a TILE x TILE tile of G per workgroup.

#permute TILE 64 16
#import gradient_tile

struct Params {
    // The unit's tokens: begin .. end.
    begin: u32,
    end: u32,
    rows: u32,
    columns: u32,
    left_stride: u32,
    left_offset: u32,
    right_stride: u32,
    right_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> left: array<f32>;
@group(0) @binding(2) var<storage, read> right: array<f32>;
@group(0) @binding(3) var<storage, read_write> grads: array<f32>;

fn store(r: u32, c: u32, elements: vec4<f32>) {
    for (var j = 0u; j < 4u; j++) {
        if r < params.rows && c + j < params.columns {
            grads[r * params.columns + c + j] = elements[j];
        }
    }
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_row = group.y * TILE;
    let first_column = group.x * TILE;
    let r = first_row + 4u * (local / SIDE);
    let c = first_column + 4u * (local % SIDE);
    let g = gradient_tile(params.begin, params.end, first_row, first_column, local);
    store(r, c, g[0]);
    store(r + 1u, c, g[1]);
    store(r + 2u, c, g[2]);
    store(r + 3u, c, g[3]);
}
