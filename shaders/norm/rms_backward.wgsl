// Gradient of RMSNorm at its input, and the terms of its gain's gradient. One workgroup per row.
//
// With u = 1 / sqrt(mean(x²) + epsilon) and n = x u: gain_terms = dy n, and
// dx = start + u (dy gain - n mean(dy gain n)).

#permute WG_SIZE 64 256
#permute REDUCTION tree 8 16 32 64
#import workgroup_reduce

struct Params {
    rows: u32,
    heads: u32,
    width: u32,
    epsilon: f32,
    x_stride: u32,
    x_offset: u32,
    dy_stride: u32,
    dy_offset: u32,
    dx_stride: u32,
    dx_offset: u32,
    // 0: dx is replaced; 1: added to.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage, read_write> gain_terms: array<f32>;

const WG_SIZE = #{WG_SIZE}u;

@compute @workgroup_size(WG_SIZE)
fn main(at: Invocation) {
    let local = at.local;
    let row = at.group.x + at.group.y * at.groups.x;
    if row >= params.rows {
        return;
    }
    let token = row / params.heads;
    let column = row % params.heads * params.width;
    let x_row = token * params.x_stride + params.x_offset + column;
    let dy_row = token * params.dy_stride + params.dy_offset + column;
    let dx_row = token * params.dx_stride + params.dx_offset + column;
    let width = f32(params.width);

    var squares = 0.0;
    var products = 0.0;
    for (var i = local; i < params.width; i += WG_SIZE) {
        let value = x[x_row + i];
        squares = fma(value, value, squares);
        products = fma(dy[dy_row + i] * gain[i], value, products);
    }
    let rms_inverse = inverseSqrt(workgroup_sum(squares, at) / width + params.epsilon);
    let mean_product = workgroup_sum(products, at) * rms_inverse / width;

    for (var i = local; i < params.width; i += WG_SIZE) {
        let normal = x[x_row + i] * rms_inverse;
        let gradient = dy[dy_row + i];
        var start = 0.0;
        if params.accumulate == 1u {
            start = dx[dx_row + i];
        }
        dx[dx_row + i] = start + rms_inverse * (gradient * gain[i] - normal * mean_product);
        gain_terms[row * params.width + i] = gradient * normal;
    }
}
