// The weight gradient of one unit, G[r, c] = Σ_t left[t, r] right[t, c]: a tile of G per workgroup.

#permute TILE 128 128x64 64 32
#permute EDGES none any
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
@group(0) @binding(1) var<storage, read> left: array<Gradient>;
@group(0) @binding(2) var<storage, read> right: array<Gradient>;
@group(0) @binding(3) var<storage, read_write> result: array<Gradient>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_row = group.y * TILE_ROWS;
    let first_column = group.x * TILE_COLUMNS;
    var sums: Sums;
    for (var start = params.begin; start < params.end; start += DEPTH) {
        let depth = min(DEPTH, params.end - start);
        stage_tokens(start, depth, first_row, first_column, local);
        workgroupBarrier();
        add_products(&sums, 0u, depth, local);
        // The next tokens overwrite what slower invocations may still be reading.
        workgroupBarrier();
    }
    store_sums(sums, first_row, first_column, local);
}
