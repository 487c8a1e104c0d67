// A tile of one unit's weight gradient, G[r, c] = Σ_t left[t, r] right[t, c], built in registers.
// Expects `params` with rows, columns and the strides and offsets of `left` and `right`.

const TILE = #{TILE}u;
// Tokens that are staged in workgroup memory at a time.
const DEPTH = 16u;
// Every invocation owns 4 x 4 neighbouring elements of G.
const SIDE = TILE / 4u;
const WG_SIZE = SIDE * SIDE;

var<workgroup> sh_left: array<vec4<f32>, DEPTH * SIDE>;
var<workgroup> sh_right: array<vec4<f32>, DEPTH * SIDE>;

// Four neighbouring elements of a row of activations, zero where they lie beyond its `width`.
fn left_elements(token: u32, r: u32) -> vec4<f32> {
    let place = token * params.left_stride + params.left_offset + r;
    var elements = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if r + i < params.rows {
            elements[i] = left[place + i];
        }
    }
    return elements;
}

fn right_elements(token: u32, c: u32) -> vec4<f32> {
    let place = token * params.right_stride + params.right_offset + c;
    var elements = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if c + i < params.columns {
            elements[i] = right[place + i];
        }
    }
    return elements;
}

// Row i of the result is row first_row + 4 (local / SIDE) + i of G, its elements the columns from
// first_column + 4 (local % SIDE). The sum runs over the tokens begin .. end in order. Contains barriers.
fn gradient_tile(begin: u32, end: u32, first_row: u32, first_column: u32, local: u32) -> array<vec4<f32>, 4> {
    var g0 = vec4<f32>();
    var g1 = vec4<f32>();
    var g2 = vec4<f32>();
    var g3 = vec4<f32>();
    for (var start = begin; start < end; start += DEPTH) {
        let depth = min(DEPTH, end - start);
        for (var k = local; k < depth * SIDE; k += WG_SIZE) {
            let token = start + k / SIDE;
            let place = 4u * (k % SIDE);
            sh_left[k] = left_elements(token, first_row + place);
            sh_right[k] = right_elements(token, first_column + place);
        }
        workgroupBarrier();
        for (var t = 0u; t < depth; t++) {
            let l = sh_left[t * SIDE + local / SIDE];
            let r = sh_right[t * SIDE + local % SIDE];
            g0 = fma(vec4(l.x), r, g0);
            g1 = fma(vec4(l.y), r, g1);
            g2 = fma(vec4(l.z), r, g2);
            g3 = fma(vec4(l.w), r, g3);
        }
        // The next tokens overwrite what slower invocations may still be reading.
        workgroupBarrier();
    }
    return array(g0, g1, g2, g3);
}
