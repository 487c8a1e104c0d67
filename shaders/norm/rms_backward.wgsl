// RMSNorm backward: with x̂ = x·s, s = 1 / sqrt(mean(x²) + epsilon) and g = dy · gain,
// dx = s · (g − x̂ · mean(g · x̂)), and the gain's terms dy · x̂. One workgroup per row of one head.

#import row_sum

struct Params {
    rows: u32,
    heads: u32,
    width: u32,
    x_stride: u32,
    x_offset: u32,
    dy_stride: u32,
    dy_offset: u32,
    dx_stride: u32,
    dx_offset: u32,
    // 1: dx is added to.
    accumulate: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage, read_write> gain_terms: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows {
        return;
    }
    let token = row / params.heads;
    let column = row % params.heads * params.width;
    let x_first = token * params.x_stride + params.x_offset + column;
    let dy_first = token * params.dy_stride + params.dy_offset + column;
    let dx_first = token * params.dx_stride + params.dx_offset + column;
    var squares = 0.0;
    var products = 0.0;
    for (var i = local; i < params.width; i += SUM_SIZE) {
        let value = x[x_first + i];
        squares = fma(value, value, squares);
        products = fma(dy[dy_first + i] * gain[i], value, products);
    }
    let scale = 1.0 / sqrt(row_sum(local, squares) / f32(params.width) + params.epsilon);
    // mean(g · x̂) · s, with which x itself is multiplied.
    let pull = row_sum(local, products) / f32(params.width) * scale * scale;
    for (var i = local; i < params.width; i += SUM_SIZE) {
        let value = x[x_first + i];
        let delta = dy[dy_first + i];
        let result = scale * (delta * gain[i] - value * pull);
        gain_terms[row * params.width + i] = delta * value * scale;
        if params.accumulate == 1u {
            dx[dx_first + i] += result;
        } else {
            dx[dx_first + i] = result;
        }
    }
}
