// RMSNorm (Zhang and Sennrich 2019): y[r, :] = x[r, :] / sqrt(mean(x[r, :]²) + epsilon) * gain, one workgroup per row r.
//
// A token has `heads` rows of `width` next to each other: one for a layer's norm, several for a norm of each head.

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
    y_stride: u32,
    y_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

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
    let y_row = token * params.y_stride + params.y_offset + column;

    var squares = 0.0;
    for (var i = local; i < params.width; i += WG_SIZE) {
        squares = fma(x[x_row + i], x[x_row + i], squares);
    }
    let rms_inverse = inverseSqrt(workgroup_sum(squares, at) / f32(params.width) + params.epsilon);
    for (var i = local; i < params.width; i += WG_SIZE) {
        y[y_row + i] = x[x_row + i] * rms_inverse * gain[i];
    }
}
