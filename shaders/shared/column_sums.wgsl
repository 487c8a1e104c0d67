// Sums of a matrix's columns over a range of its rows, by workgroups that are COLUMNS wide and LANES deep.
// Expects `params` with width, terms_stride and terms_offset.

const COLUMNS = 32u;
const LANES = 8u;
const WG_SIZE = COLUMNS * LANES;

var<workgroup> sh_sums: array<f32, WG_SIZE>;

// The sum over the rows begin .. end of the column first_column + local % COLUMNS: lane l adds up every LANES-th row from
// begin + l, and the lanes are added in order, so that the result depends on these rows alone. Contains barriers.
fn column_sum(begin: u32, end: u32, first_column: u32, local: u32) -> f32 {
    let column = local % COLUMNS;
    var sum = 0.0;
    if first_column + column < params.width {
        for (var row = begin + local / COLUMNS; row < end; row += LANES) {
            sum += terms[row * params.terms_stride + params.terms_offset + first_column + column];
        }
    }
    sh_sums[local] = sum;
    workgroupBarrier();
    var total = 0.0;
    for (var lane = 0u; lane < LANES; lane++) {
        total += sh_sums[lane * COLUMNS + column];
    }
    // The next sum overwrites what slower invocations may still be reading.
    workgroupBarrier();
    return total;
}
