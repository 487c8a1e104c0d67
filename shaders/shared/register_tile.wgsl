// A tile of a product Σ_k left[k, row] right[k, column], built in registers: every invocation owns 8 rows by 4 columns of
// it (by 8 where the tile is 128 x 128), in named vectors, since indexed arrays spill to memory. Slices of DEPTH k are staged
// in workgroup memory, k by k.
//
// Every element's sum runs over k in order, one fused multiply-add at a time, whatever the tile: all variants have the same
// bits. The importing shader declares first_values(row, column) and store_values(row, column, values): what four
// neighbouring elements of the result start from, and where they go.

#if TILE == 128x64
const TILE_ROWS = 128u;
const TILE_COLUMNS = 64u;
#else
const TILE_ROWS = #{TILE}u;
const TILE_COLUMNS = #{TILE}u;
#endif
// k that are staged at a time.
const DEPTH = 16u;
// Invocations beside each other, and in all. Those of a row read the same `left`, neighbours neighbouring `right`.
#if TILE == 128
const SIDE = TILE_COLUMNS / 8u;
#else
const SIDE = TILE_COLUMNS / 4u;
#endif
const WG_SIZE = SIDE * TILE_ROWS / 8u;
// Vectors of a staged line of `left` and of `right`: odd, so that transposing into them meets no bank twice.
const LEFT_PITCH = TILE_ROWS / 4u + 1u;
const RIGHT_PITCH = TILE_COLUMNS / 4u + 1u;
const RIGHT_START = DEPTH * LEFT_PITCH;
// Blocks of 4 x 4 in which a slice is transposed.
const LEFT_BLOCKS = DEPTH * TILE_ROWS / 16u;
const RIGHT_BLOCKS = DEPTH * TILE_COLUMNS / 16u;

// DEPTH lines of `left`, then of `right`.
var<workgroup> sh_slice: array<vec4<f32>, DEPTH * (LEFT_PITCH + RIGHT_PITCH)>;

// Rows 0 to 3 of an invocation are neighbours, and so are 4 to 7, half a tile below; so are a's columns, and b's.
struct Sums {
    a0: vec4<f32>,
    a1: vec4<f32>,
    a2: vec4<f32>,
    a3: vec4<f32>,
    a4: vec4<f32>,
    a5: vec4<f32>,
    a6: vec4<f32>,
    a7: vec4<f32>,
#if TILE == 128
    b0: vec4<f32>,
    b1: vec4<f32>,
    b2: vec4<f32>,
    b3: vec4<f32>,
    b4: vec4<f32>,
    b5: vec4<f32>,
    b6: vec4<f32>,
    b7: vec4<f32>,
#endif
}

// Where an invocation's rows 0 and 4 and its columns a and b begin, in the tile.
fn own_row(local: u32) -> u32 {
    return 4u * (local / SIDE);
}

fn own_column(local: u32) -> u32 {
    return 4u * (local % SIDE);
}

// Adds the products of the staged k from `from` up to `to`, in order.
fn add_products(sums: ptr<function, Sums>, from_k: u32, to_k: u32, local: u32) {
    let row = local / SIDE;
    let column = RIGHT_START + local % SIDE;
    for (var k = from_k; k < to_k; k++) {
        let l0 = sh_slice[k * LEFT_PITCH + row];
        let l1 = sh_slice[k * LEFT_PITCH + TILE_ROWS / 8u + row];
        let r0 = sh_slice[k * RIGHT_PITCH + column];
        (*sums).a0 = fma(vec4(l0.x), r0, (*sums).a0);
        (*sums).a1 = fma(vec4(l0.y), r0, (*sums).a1);
        (*sums).a2 = fma(vec4(l0.z), r0, (*sums).a2);
        (*sums).a3 = fma(vec4(l0.w), r0, (*sums).a3);
        (*sums).a4 = fma(vec4(l1.x), r0, (*sums).a4);
        (*sums).a5 = fma(vec4(l1.y), r0, (*sums).a5);
        (*sums).a6 = fma(vec4(l1.z), r0, (*sums).a6);
        (*sums).a7 = fma(vec4(l1.w), r0, (*sums).a7);
#if TILE == 128
        let r1 = sh_slice[k * RIGHT_PITCH + TILE_COLUMNS / 8u + column];
        (*sums).b0 = fma(vec4(l0.x), r1, (*sums).b0);
        (*sums).b1 = fma(vec4(l0.y), r1, (*sums).b1);
        (*sums).b2 = fma(vec4(l0.z), r1, (*sums).b2);
        (*sums).b3 = fma(vec4(l0.w), r1, (*sums).b3);
        (*sums).b4 = fma(vec4(l1.x), r1, (*sums).b4);
        (*sums).b5 = fma(vec4(l1.y), r1, (*sums).b5);
        (*sums).b6 = fma(vec4(l1.z), r1, (*sums).b6);
        (*sums).b7 = fma(vec4(l1.w), r1, (*sums).b7);
#endif
    }
}

// Which block of a transposed slice the invocation `b` takes: its line and its k, in fours. Two neighbours read a whole
// sector of memory, and eight write to different banks.
fn block_place(b: u32) -> vec2<u32> {
    let line = (extractBits(b, 1u, 2u)) | ((b >> 4u) << 2u);
    return vec2(line, (b & 1u) | (extractBits(b, 3u, 1u) << 1u));
}

// Stages four lines of four k each, transposed.
fn stage_transposed(start: u32, pitch: u32, place: vec2<u32>, e0: vec4<f32>, e1: vec4<f32>, e2: vec4<f32>, e3: vec4<f32>) {
    let at = start + 4u * place.y * pitch + place.x;
    sh_slice[at] = vec4(e0.x, e1.x, e2.x, e3.x);
    sh_slice[at + pitch] = vec4(e0.y, e1.y, e2.y, e3.y);
    sh_slice[at + 2u * pitch] = vec4(e0.z, e1.z, e2.z, e3.z);
    sh_slice[at + 3u * pitch] = vec4(e0.w, e1.w, e2.w, e3.w);
}

// The values that an invocation's sums start from. The tile begins at first_row, first_column of the result.
fn first_sums(first_row: u32, first_column: u32, local: u32) -> Sums {
    let row = first_row + own_row(local);
    let lower = row + TILE_ROWS / 2u;
    let column = first_column + own_column(local);
    var sums: Sums;
    sums.a0 = first_values(row, column);
    sums.a1 = first_values(row + 1u, column);
    sums.a2 = first_values(row + 2u, column);
    sums.a3 = first_values(row + 3u, column);
    sums.a4 = first_values(lower, column);
    sums.a5 = first_values(lower + 1u, column);
    sums.a6 = first_values(lower + 2u, column);
    sums.a7 = first_values(lower + 3u, column);
#if TILE == 128
    sums.b0 = first_values(row, column + TILE_COLUMNS / 2u);
    sums.b1 = first_values(row + 1u, column + TILE_COLUMNS / 2u);
    sums.b2 = first_values(row + 2u, column + TILE_COLUMNS / 2u);
    sums.b3 = first_values(row + 3u, column + TILE_COLUMNS / 2u);
    sums.b4 = first_values(lower, column + TILE_COLUMNS / 2u);
    sums.b5 = first_values(lower + 1u, column + TILE_COLUMNS / 2u);
    sums.b6 = first_values(lower + 2u, column + TILE_COLUMNS / 2u);
    sums.b7 = first_values(lower + 3u, column + TILE_COLUMNS / 2u);
#endif
    return sums;
}

fn store_sums(sums: Sums, first_row: u32, first_column: u32, local: u32) {
    let row = first_row + own_row(local);
    let lower = row + TILE_ROWS / 2u;
    let column = first_column + own_column(local);
    store_values(row, column, sums.a0);
    store_values(row + 1u, column, sums.a1);
    store_values(row + 2u, column, sums.a2);
    store_values(row + 3u, column, sums.a3);
    store_values(lower, column, sums.a4);
    store_values(lower + 1u, column, sums.a5);
    store_values(lower + 2u, column, sums.a6);
    store_values(lower + 3u, column, sums.a7);
#if TILE == 128
    store_values(row, column + TILE_COLUMNS / 2u, sums.b0);
    store_values(row + 1u, column + TILE_COLUMNS / 2u, sums.b1);
    store_values(row + 2u, column + TILE_COLUMNS / 2u, sums.b2);
    store_values(row + 3u, column + TILE_COLUMNS / 2u, sums.b3);
    store_values(lower, column + TILE_COLUMNS / 2u, sums.b4);
    store_values(lower + 1u, column + TILE_COLUMNS / 2u, sums.b5);
    store_values(lower + 2u, column + TILE_COLUMNS / 2u, sums.b6);
    store_values(lower + 3u, column + TILE_COLUMNS / 2u, sums.b7);
#endif
}
