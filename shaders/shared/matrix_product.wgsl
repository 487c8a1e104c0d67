// The product of X with a stored matrix by matrix units, a tile of tokens by WIDTH per workgroup. RIGHT says how W is staged:
// `line` where its rows are the result's columns, `k` where its columns are.

#define LEFT line
#import matrix_tile

@compute @workgroup_size(WG_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    let first_column = group.x * TILE_COLUMNS;
    let first_row = group.y * TILE_ROWS;
    let part_row = subgroup / 2u * PART;
    let part_column = subgroup % 2u * PART;
    clear_zeros(local);
    workgroupBarrier();
#import matrix_zero
    for (var start = 0u; start < params.#{SUM}; start += DEPTH) {
        for (var n = local; n < TILE_ROWS * DEPTH / 4u; n += WG_SIZE) {
            let t = n / (DEPTH / 4u);
            let k = 4u * (n % (DEPTH / 4u));
            stage_left(t * LEFT_PITCH + k, left_elements(first_row + t, start + k));
        }
        for (var n = local; n < DEPTH * TILE_COLUMNS / 4u; n += WG_SIZE) {
#if RIGHT == line
            let r = n / (DEPTH / 4u);
            let k = 4u * (n % (DEPTH / 4u));
            stage_right(r * RIGHT_PITCH + k, right_elements(first_column + r, start + k));
#else
            let k = n / (TILE_COLUMNS / 4u);
            let c = 4u * (n % (TILE_COLUMNS / 4u));
            stage_right(k * RIGHT_PITCH + c, right_elements(start + k, first_column + c));
#endif
        }
        workgroupBarrier();
        let depth = DEPTH;
#import matrix_multiply
        // The next slice overwrites what slower invocations may still be reading.
        workgroupBarrier();
    }
#import matrix_store
}
