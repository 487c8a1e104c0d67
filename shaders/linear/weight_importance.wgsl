// F = accumulate over units n of G_n, G_n[r, c] = Σ_t left[t, r] right[t, c]: a TILE x TILE tile of F per workgroup.
//
// G_n exists in registers only. One workgroup owns its tile of F for all units, so nothing needs atomics; F starts from
// the stored values and takes the units in order, so a split over several launches changes no bits.

#permute ACCUMULATE square magnitude sum
#permute TILE 64 16
#import accumulate
#import gradient_tile

struct Params {
    // Units: the tokens offsets[n] .. offsets[n + 1] are one.
    units: u32,
    rows: u32,
    columns: u32,
    left_stride: u32,
    left_offset: u32,
    right_stride: u32,
    right_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>;
@group(0) @binding(2) var<storage, read> left: array<f32>;
@group(0) @binding(3) var<storage, read> right: array<f32>;
@group(0) @binding(4) var<storage, read_write> importance: array<f32>;

fn stored(r: u32, c: u32) -> vec4<f32> {
    var elements = vec4<f32>();
    for (var j = 0u; j < 4u; j++) {
        if r < params.rows && c + j < params.columns {
            elements[j] = importance[r * params.columns + c + j];
        }
    }
    return elements;
}

fn store(r: u32, c: u32, elements: vec4<f32>) {
    for (var j = 0u; j < 4u; j++) {
        if r < params.rows && c + j < params.columns {
            importance[r * params.columns + c + j] = elements[j];
        }
    }
}

fn accumulate_each(f: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return vec4(accumulate(f.x, g.x), accumulate(f.y, g.y), accumulate(f.z, g.z), accumulate(f.w, g.w));
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_row = group.y * TILE;
    let first_column = group.x * TILE;
    let r = first_row + 4u * (local / SIDE);
    let c = first_column + 4u * (local % SIDE);
    var f0 = stored(r, c);
    var f1 = stored(r + 1u, c);
    var f2 = stored(r + 2u, c);
    var f3 = stored(r + 3u, c);
    for (var n = 0u; n < params.units; n++) {
        let g = gradient_tile(offsets[n], offsets[n + 1u], first_row, first_column, local);
        f0 = accumulate_each(f0, g[0]);
        f1 = accumulate_each(f1, g[1]);
        f2 = accumulate_each(f2, g[2]);
        f3 = accumulate_each(f3, g[3]);
    }
    store(r, c, f0);
    store(r + 1u, c, f1);
    store(r + 2u, c, f2);
    store(r + 3u, c, f3);
}
