// Y = X Wᵀ: y[t, r] = start + Σ_c x[t, c] w[r, c], a tile of tokens by rows of W per workgroup.
//
// The forward product of a linear layer stored [out, in], and the input gradient of one stored [in, out].
// The sum over c runs in order from the start value, so neither the tile nor its place nor a split of W over several
// launches changes a result's bits.

#permute ELEMENT f32 f16 bf16
#permute TILE 128 128x64 64 32
#permute EDGES none any
#import product
#import register_tile

fn first_values(token: u32, row: u32) -> vec4<f32> {
    return y_elements(token, row, params.rows);
}

fn store_values(token: u32, row: u32, values: vec4<f32>) {
    store_y(token, row, params.rows, values);
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_row = group.x * TILE_COLUMNS;
    let first_token = group.y * TILE_ROWS;
    var sums: Sums;
    if params.accumulate == 1u {
        sums = first_sums(first_token, first_row, local);
    }
    for (var start = 0u; start < params.columns; start += DEPTH) {
        for (var b = local; b < LEFT_BLOCKS + RIGHT_BLOCKS; b += WG_SIZE) {
            if b < LEFT_BLOCKS {
                let place = block_place(b);
                let t = first_token + 4u * place.x;
                let c = start + 4u * place.y;
                let e0 = x_elements(t, c, params.columns);
                let e1 = x_elements(t + 1u, c, params.columns);
                let e2 = x_elements(t + 2u, c, params.columns);
                let e3 = x_elements(t + 3u, c, params.columns);
                stage_transposed(0u, LEFT_PITCH, place, e0, e1, e2, e3);
            } else {
                let place = block_place(b - LEFT_BLOCKS);
                let r = first_row + 4u * place.x;
                let c = start + 4u * place.y;
                let e0 = w_elements(r, c);
                let e1 = w_elements(r + 1u, c);
                let e2 = w_elements(r + 2u, c);
                let e3 = w_elements(r + 3u, c);
                stage_transposed(RIGHT_START, RIGHT_PITCH, place, e0, e1, e2, e3);
            }
        }
        workgroupBarrier();
#if EDGES == none
        add_products(&sums, 0u, DEPTH, local);
#else
        add_products(&sums, 0u, min(DEPTH, params.columns - start), local);
#endif
        // The next slice overwrites what slower invocations may still be reading.
        workgroupBarrier();
    }
    store_sums(sums, first_token, first_row, local);
}
