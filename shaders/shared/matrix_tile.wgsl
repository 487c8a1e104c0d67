// A tile of a product Σ_k left[row, k] right[k, column], computed by matrix units: factors in half, sums in single precision.
// Four subgroups share a tile in two by two parts, each of 4 x 4 fragments. Slices of DEPTH k are staged in workgroup memory.
//
// LEFT and RIGHT say how an operand is staged, which is as it lies in memory: `line`, all k of a row (or column) beside each
// other, or `k`, all rows (columns) of a k. The importing shader declares store_values(row, column, sums), and its `main`
// imports matrix_zero, matrix_multiply and matrix_store in this order: fragments can be kept in variables only.

#if UNIT == matrix16
#require f16 subgroups matrices16
const FRAGMENT = 16u;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
#else
#require f16 subgroups matrices8
const FRAGMENT = 8u;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;
#endif
const PART = 4u * FRAGMENT;
const TILE_ROWS = 2u * PART;
const TILE_COLUMNS = 2u * PART;
const DEPTH = 16u;
const SUBGROUPS = 4u;
// Of 32 invocations each; the Rust side sees to it.
const WG_SIZE = 32u * SUBGROUPS;
// Eight more halves from line to line avoid bank conflicts.
#if LEFT == line
const LEFT_PITCH = DEPTH + 8u;
const LEFT_SIZE = TILE_ROWS * LEFT_PITCH;
#else
const LEFT_PITCH = TILE_ROWS + 8u;
const LEFT_SIZE = DEPTH * LEFT_PITCH;
#endif
#if RIGHT == line
const RIGHT_PITCH = DEPTH + 8u;
const RIGHT_SIZE = TILE_COLUMNS * RIGHT_PITCH;
#else
const RIGHT_PITCH = TILE_COLUMNS + 8u;
const RIGHT_SIZE = DEPTH * RIGHT_PITCH;
#endif

var<workgroup> sh_left: array<f16, LEFT_SIZE>;
var<workgroup> sh_right: array<f16, RIGHT_SIZE>;
// A row of fragments of each subgroup, on its way out.
var<workgroup> sh_sums: array<f32, SUBGROUPS * FRAGMENT * PART>;
var<workgroup> sh_zeros: array<f32, FRAGMENT * FRAGMENT>;

fn clear_zeros(local: u32) {
    for (var n = local; n < FRAGMENT * FRAGMENT; n += WG_SIZE) {
        sh_zeros[n] = 0.0;
    }
}

fn stage_left(at: u32, elements: vec4<f32>) {
    sh_left[at] = f16(elements.x);
    sh_left[at + 1u] = f16(elements.y);
    sh_left[at + 2u] = f16(elements.z);
    sh_left[at + 3u] = f16(elements.w);
}

fn stage_right(at: u32, elements: vec4<f32>) {
    sh_right[at] = f16(elements.x);
    sh_right[at + 1u] = f16(elements.y);
    sh_right[at + 2u] = f16(elements.z);
    sh_right[at + 3u] = f16(elements.w);
}

// Stores a subgroup's row of fragments, from sh_sums on.
fn store_fragments(first: u32, row: u32, column: u32, lane: u32, lanes: u32) {
    for (var n = lane; n < FRAGMENT * FRAGMENT; n += lanes) {
        let r = n / FRAGMENT;
        let c = 4u * (n % FRAGMENT);
        let at = first + r * PART + c;
        store_values(row + r, column + c, vec4(sh_sums[at], sh_sums[at + 1u], sh_sums[at + 2u], sh_sums[at + 3u]));
    }
}
