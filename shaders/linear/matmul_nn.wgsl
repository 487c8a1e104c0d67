// Y = X W: y[t, c] = start + Σ_r x[t, r] w[r, c], a tile of tokens by columns of W per workgroup.
//
// The input gradient of a linear layer stored [out, in], and the forward product of one stored [in, out].
// The sum over r runs in order from the start value, so slices of W's rows, given one after the other, yield the same
// bits as all of W at once, and so do all tiles.

#permute ELEMENT f32 f16 bf16
#permute TILE 128 128x64 64 32
#permute EDGES none any
#import product
#import register_tile

fn first_values(token: u32, column: u32) -> vec4<f32> {
    return y_elements(token, column, params.columns);
}

fn store_values(token: u32, column: u32, values: vec4<f32>) {
    store_y(token, column, params.columns, values);
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_column = group.x * TILE_COLUMNS;
    let first_token = group.y * TILE_ROWS;
    var sums: Sums;
    if params.accumulate == 1u {
        sums = first_sums(first_token, first_column, local);
    }
    for (var start = 0u; start < params.rows; start += DEPTH) {
        for (var b = local; b < LEFT_BLOCKS; b += WG_SIZE) {
            let place = block_place(b);
            let t = first_token + 4u * place.x;
            let r = start + 4u * place.y;
            let e0 = x_elements(t, r, params.rows);
            let e1 = x_elements(t + 1u, r, params.rows);
            let e2 = x_elements(t + 2u, r, params.rows);
            let e3 = x_elements(t + 3u, r, params.rows);
            stage_transposed(0u, LEFT_PITCH, place, e0, e1, e2, e3);
        }
        for (var n = local; n < DEPTH * TILE_COLUMNS / 4u; n += WG_SIZE) {
            let r = n / (TILE_COLUMNS / 4u);
            let place = n % (TILE_COLUMNS / 4u);
            sh_slice[RIGHT_START + r * RIGHT_PITCH + place] = w_elements(start + r, first_column + 4u * place);
        }
        workgroupBarrier();
#if EDGES == none
        add_products(&sums, 0u, DEPTH, local);
#else
        add_products(&sums, 0u, min(DEPTH, params.rows - start), local);
#endif
        // The next slice overwrites what slower invocations may still be reading.
        workgroupBarrier();
    }
    store_sums(sums, first_token, first_column, local);
}
