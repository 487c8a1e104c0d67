// The uncentred covariance of activations, C += Σ_s x[s]ᵀ x[s] over selected tokens s: a TILE x TILE tile of C per workgroup.
//
// C is symmetric: tiles wholly below the diagonal are left alone. A sum starts from the stored value and takes the tokens in
// the order of the selection, so a split over several launches changes no bits, and neither does a split of C into blocks
// of rows that begin at whole tiles.

#permute TILE 64 16

struct Params {
    // Selected tokens.
    count: u32,
    // Features: columns of C.
    width: u32,
    // The first row of C that the block covers, and how many it covers.
    first_row: u32,
    rows: u32,
    // Elements from one token's activation to the next, and the first column.
    stride: u32,
    offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> selected: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> covariance: array<f32>;

const TILE = #{TILE}u;
// Tokens that are staged in workgroup memory at a time.
const DEPTH = 16u;
// Every invocation owns 4 x 4 neighbouring elements of C.
const SIDE = TILE / 4u;
const WG_SIZE = SIDE * SIDE;

var<workgroup> sh_left: array<vec4<f32>, DEPTH * SIDE>;
var<workgroup> sh_right: array<vec4<f32>, DEPTH * SIDE>;

// Four neighbouring features of a token, zero beyond the last.
fn features(token: u32, column: u32) -> vec4<f32> {
    let place = token * params.stride + params.offset + column;
    var elements = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if column + i < params.width {
            elements[i] = x[place + i];
        }
    }
    return elements;
}

// r counts the block's rows, c the columns of C.
fn stored(r: u32, c: u32) -> vec4<f32> {
    var elements = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if r < params.rows && c + i < params.width {
            elements[i] = covariance[r * params.width + c + i];
        }
    }
    return elements;
}

fn store(r: u32, c: u32, elements: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if r < params.rows && c + i < params.width {
            covariance[r * params.width + c + i] = elements[i];
        }
    }
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile_row = group.y * TILE;
    let tile_column = group.x * TILE;
    // The whole workgroup returns, so that no barrier waits for it.
    if tile_column + TILE <= params.first_row + tile_row {
        return;
    }
    let r = tile_row + 4u * (local / SIDE);
    let c = tile_column + 4u * (local % SIDE);
    var c0 = stored(r, c);
    var c1 = stored(r + 1u, c);
    var c2 = stored(r + 2u, c);
    var c3 = stored(r + 3u, c);
    for (var start = 0u; start < params.count; start += DEPTH) {
        let depth = min(DEPTH, params.count - start);
        for (var k = local; k < depth * SIDE; k += WG_SIZE) {
            let token = selected[start + k / SIDE];
            let place = 4u * (k % SIDE);
            sh_left[k] = features(token, params.first_row + tile_row + place);
            sh_right[k] = features(token, tile_column + place);
        }
        workgroupBarrier();
        for (var t = 0u; t < depth; t++) {
            let left = sh_left[t * SIDE + local / SIDE];
            let right = sh_right[t * SIDE + local % SIDE];
            c0 = fma(vec4(left.x), right, c0);
            c1 = fma(vec4(left.y), right, c1);
            c2 = fma(vec4(left.z), right, c2);
            c3 = fma(vec4(left.w), right, c3);
        }
        // The next tokens overwrite what slower invocations may still be reading.
        workgroupBarrier();
    }
    store(r, c, c0);
    store(r + 1u, c, c1);
    store(r + 2u, c, c2);
    store(r + 3u, c, c3);
}
