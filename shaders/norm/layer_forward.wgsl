// LayerNorm (Ba, Kiros and Hinton 2016): y = (x - mean(x)) / sqrt(variance(x) + epsilon) * gain + bias, one workgroup per
// token. The variance is the mean of the squared distances from the mean found first, so that it never cancels.

#permute WG_SIZE 64 256
#permute REDUCTION tree 8 16 32 64
#import workgroup_reduce

struct Params {
    tokens: u32,
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
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

const WG_SIZE = #{WG_SIZE}u;

@compute @workgroup_size(WG_SIZE)
fn main(at: Invocation) {
    let local = at.local;
    let token = at.group.x + at.group.y * at.groups.x;
    if token >= params.tokens {
        return;
    }
    let x_row = token * params.x_stride + params.x_offset;
    let y_row = token * params.y_stride + params.y_offset;
    let width = f32(params.width);

    var values = 0.0;
    for (var i = local; i < params.width; i += WG_SIZE) {
        values += x[x_row + i];
    }
    let mean = workgroup_sum(values, at) / width;
    var squares = 0.0;
    for (var i = local; i < params.width; i += WG_SIZE) {
        let distance = x[x_row + i] - mean;
        squares = fma(distance, distance, squares);
    }
    let deviation_inverse = inverseSqrt(workgroup_sum(squares, at) / width + params.epsilon);
    for (var i = local; i < params.width; i += WG_SIZE) {
        y[y_row + i] = fma((x[x_row + i] - mean) * deviation_inverse, gain[i], bias[i]);
    }
}
