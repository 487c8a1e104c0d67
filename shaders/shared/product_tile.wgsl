// The product of X with a stored matrix by register tiles, a tile of tokens by WIDTH per workgroup. RIGHT says how W is
// staged: `line`, transposed, where its rows are the result's columns; `k`, as it lies, where its columns are.

#import register_tile

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_column = group.x * TILE_COLUMNS;
    let first_token = group.y * TILE_ROWS;
    var sums: Sums;
#if UNIT == full
    if params.accumulate == 1u {
        sums = first_sums(first_token, first_column, local);
    }
#endif
    for (var start = 0u; start < params.#{SUM}; start += DEPTH) {
        for (var b = local; b < LEFT_BLOCKS; b += WG_SIZE) {
            let place = block_place(b);
            let t = first_token + 4u * place.x;
            let k = start + 4u * place.y;
            let e0 = left_elements(t, k);
            let e1 = left_elements(t + 1u, k);
            let e2 = left_elements(t + 2u, k);
            let e3 = left_elements(t + 3u, k);
            stage_transposed(0u, LEFT_PITCH, place, e0, e1, e2, e3);
        }
#if RIGHT == line
        // Where there are enough, the invocations that have no block of `left` take those of `right`.
        for (var b = (local + WG_SIZE - LEFT_BLOCKS % WG_SIZE) % WG_SIZE; b < RIGHT_BLOCKS; b += WG_SIZE) {
            let place = block_place(b);
            let r = first_column + 4u * place.x;
            let k = start + 4u * place.y;
            let e0 = right_elements(r, k);
            let e1 = right_elements(r + 1u, k);
            let e2 = right_elements(r + 2u, k);
            let e3 = right_elements(r + 3u, k);
            stage_transposed(RIGHT_START, RIGHT_PITCH, place, e0, e1, e2, e3);
        }
#else
        for (var n = local; n < DEPTH * TILE_COLUMNS / 4u; n += WG_SIZE) {
            let k = n / (TILE_COLUMNS / 4u);
            let place = n % (TILE_COLUMNS / 4u);
            sh_slice[RIGHT_START + k * RIGHT_PITCH + place] = right_elements(start + k, first_column + 4u * place);
        }
#endif
        workgroupBarrier();
#if EDGES == none
        add_products(&sums, 0u, DEPTH, local);
#else
        add_products(&sums, 0u, min(DEPTH, params.#{SUM} - start), local);
#endif
        // The next slice overwrites what slower invocations may still be reading.
        workgroupBarrier();
    }
    store_sums(sums, first_token, first_column, local);
}
