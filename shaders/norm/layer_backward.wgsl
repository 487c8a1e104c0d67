// Gradient of LayerNorm at its input, and the terms of its gain's gradient (the bias's terms are dy). One workgroup per
// token.
//
// With u = 1 / sqrt(variance(x) + epsilon) and n = (x - mean(x)) u: gain_terms = dy n, and
// dx = start + u (dy gain - mean(dy gain) - n mean(dy gain n)).

#permute WG_SIZE 64 256
#permute REDUCTION tree 8 16 32 64
#import workgroup_reduce

struct Params {
    tokens: u32,
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
    let token = at.group.x + at.group.y * at.groups.x;
    if token >= params.tokens {
        return;
    }
    let x_row = token * params.x_stride + params.x_offset;
    let dy_row = token * params.dy_stride + params.dy_offset;
    let dx_row = token * params.dx_stride + params.dx_offset;
    let width = f32(params.width);

    var values = 0.0;
    var gradients = 0.0;
    for (var i = local; i < params.width; i += WG_SIZE) {
        values += x[x_row + i];
        gradients = fma(dy[dy_row + i], gain[i], gradients);
    }
    let mean = workgroup_sum(values, at) / width;
    let mean_gradient = workgroup_sum(gradients, at) / width;
    var squares = 0.0;
    var products = 0.0;
    for (var i = local; i < params.width; i += WG_SIZE) {
        let distance = x[x_row + i] - mean;
        squares = fma(distance, distance, squares);
        products = fma(dy[dy_row + i] * gain[i], distance, products);
    }
    let deviation_inverse = inverseSqrt(workgroup_sum(squares, at) / width + params.epsilon);
    let mean_product = workgroup_sum(products, at) * deviation_inverse / width;

    for (var i = local; i < params.width; i += WG_SIZE) {
        let normal = (x[x_row + i] - mean) * deviation_inverse;
        let gradient = dy[dy_row + i];
        var start = 0.0;
        if params.accumulate == 1u {
            start = dx[dx_row + i];
        }
        dx[dx_row + i] = start + deviation_inverse * (gradient * gain[i] - mean_gradient - normal * mean_product);
        gain_terms[token * params.width + i] = gradient * normal;
    }
}
