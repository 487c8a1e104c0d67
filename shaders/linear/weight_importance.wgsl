// F = accumulate over units n of G_n, G_n[r, c] = Σ_t left[t, r] right[t, c]: a tile of F per workgroup.
//
// G_n exists in registers only. One workgroup owns its tile of F for all units, so nothing needs atomics; F starts from
// the stored values and takes the units in order, so a split over several launches changes no bits. Tokens are staged
// irrespective of where units end, so that many short units cost no more than one long one.

#permute ACCUMULATE square magnitude sum
#permute TILE 128 128x64 64 32
#permute EDGES none any
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
@group(0) @binding(2) var<storage, read> left: array<Gradient>;
@group(0) @binding(3) var<storage, read> right: array<Gradient>;
@group(0) @binding(4) var<storage, read_write> result: array<Gradient>;

fn accumulate_each(f: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return vec4(accumulate(f.x, g.x), accumulate(f.y, g.y), accumulate(f.z, g.z), accumulate(f.w, g.w));
}

fn fold(f: ptr<function, Sums>, g: Sums) {
    (*f).a0 = accumulate_each((*f).a0, g.a0);
    (*f).a1 = accumulate_each((*f).a1, g.a1);
    (*f).a2 = accumulate_each((*f).a2, g.a2);
    (*f).a3 = accumulate_each((*f).a3, g.a3);
    (*f).a4 = accumulate_each((*f).a4, g.a4);
    (*f).a5 = accumulate_each((*f).a5, g.a5);
    (*f).a6 = accumulate_each((*f).a6, g.a6);
    (*f).a7 = accumulate_each((*f).a7, g.a7);
#if TILE == 128
    (*f).b0 = accumulate_each((*f).b0, g.b0);
    (*f).b1 = accumulate_each((*f).b1, g.b1);
    (*f).b2 = accumulate_each((*f).b2, g.b2);
    (*f).b3 = accumulate_each((*f).b3, g.b3);
    (*f).b4 = accumulate_each((*f).b4, g.b4);
    (*f).b5 = accumulate_each((*f).b5, g.b5);
    (*f).b6 = accumulate_each((*f).b6, g.b6);
    (*f).b7 = accumulate_each((*f).b7, g.b7);
#endif
}

// The first unit from `unit` on that ends beyond `token`, or the number of units.
fn unit_beyond(first: u32, token: u32) -> u32 {
    var unit = first;
    while unit < params.units && offsets[unit + 1u] <= token {
        unit++;
    }
    return unit;
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_row = group.y * TILE_ROWS;
    let first_column = group.x * TILE_COLUMNS;
    var f = first_sums(first_row, first_column, local);
    var g: Sums;
    let end = offsets[params.units];
    var unit = unit_beyond(0u, offsets[0]);
    for (var start = offsets[0]; start < end; start += DEPTH) {
        let depth = min(DEPTH, end - start);
        stage_tokens(start, depth, first_row, first_column, local);
        workgroupBarrier();
        var t = 0u;
        while t < depth {
            let unit_end = offsets[unit + 1u] - start;
            if t == 0u && unit_end >= DEPTH && depth == DEPTH {
                // The common case has a loop of a known length.
                add_products(&g, 0u, DEPTH, local);
                t = DEPTH;
            } else {
                let stop = min(depth, unit_end);
                add_products(&g, t, stop, local);
                t = stop;
            }
            if t == unit_end {
                fold(&f, g);
                g = Sums();
                unit = unit_beyond(unit + 1u, start + t);
            }
        }
        // The next tokens overwrite what slower invocations may still be reading.
        workgroupBarrier();
    }
    store_sums(f, first_row, first_column, local);
}
