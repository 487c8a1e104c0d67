// Y = X W: y[t, c] = start + Σ_r x[t, r] w[r, c], a tile of TILE tokens by TILE columns of W per workgroup.
//
// The input gradient of a linear layer stored [out, in], and the forward product of one stored [in, out].
// The sum over r runs in order from the start value, so slices of W's rows, given one after the other, yield the same
// bits as all of W at once.

#permute ELEMENT f32 f16 bf16
#permute TILE 64 16
#import element

struct Params {
    tokens: u32,
    rows: u32,
    columns: u32,
    x_stride: u32,
    x_offset: u32,
    y_stride: u32,
    y_offset: u32,
    // 0: the sum starts from zero; 1: from the value stored in y.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const TILE = #{TILE}u;
// Depth of the slices of X and W that are staged in workgroup memory.
const DEPTH = 16u;
// Each of the 16 x 16 invocations owns PER_SIDE x PER_SIDE results, 16 apart, so that neighbours read neighbours.
const SIDE = 16u;
const PER_SIDE = TILE / SIDE;
const WG_SIZE = SIDE * SIDE;
// One more column than DEPTH avoids bank conflicts on the transposed reads of X.
const PITCH = DEPTH + 1u;

var<workgroup> sh_x: array<f32, TILE * PITCH>;
var<workgroup> sh_w: array<f32, DEPTH * TILE>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_column = group.x * TILE;
    let first_token = group.y * TILE;
    let column = local % SIDE;
    let token = local / SIDE;

    var sums: array<array<f32, PER_SIDE>, PER_SIDE>;
    if params.accumulate == 1u {
        for (var i = 0u; i < PER_SIDE; i++) {
            for (var j = 0u; j < PER_SIDE; j++) {
                let t = first_token + token + i * SIDE;
                let c = first_column + column + j * SIDE;
                if t < params.tokens && c < params.columns {
                    sums[i][j] = y[t * params.y_stride + params.y_offset + c];
                }
            }
        }
    }

    for (var start = 0u; start < params.rows; start += DEPTH) {
        for (var k = local; k < TILE * DEPTH; k += WG_SIZE) {
            let t = first_token + k / DEPTH;
            let x_row = start + k % DEPTH;
            var x_value = 0.0;
            if t < params.tokens && x_row < params.rows {
                x_value = x[t * params.x_stride + params.x_offset + x_row];
            }
            sh_x[k / DEPTH * PITCH + k % DEPTH] = x_value;

            let w_row = start + k / TILE;
            let c = first_column + k % TILE;
            var w_value = 0.0;
            if w_row < params.rows && c < params.columns {
                let index = w_row * params.columns + c;
                w_value = unpack_element(w[element_word(index)], element_half(index));
            }
            sh_w[k] = w_value;
        }
        workgroupBarrier();
        for (var r = 0u; r < DEPTH; r++) {
            for (var i = 0u; i < PER_SIDE; i++) {
                let x_value = sh_x[(token + i * SIDE) * PITCH + r];
                for (var j = 0u; j < PER_SIDE; j++) {
                    sums[i][j] = fma(x_value, sh_w[r * TILE + column + j * SIDE], sums[i][j]);
                }
            }
        }
        // The next slice overwrites what slower invocations may still be reading.
        workgroupBarrier();
    }

    for (var i = 0u; i < PER_SIDE; i++) {
        for (var j = 0u; j < PER_SIDE; j++) {
            let t = first_token + token + i * SIDE;
            let c = first_column + column + j * SIDE;
            if t < params.tokens && c < params.columns {
                y[t * params.y_stride + params.y_offset + c] = sums[i][j];
            }
        }
    }
}
