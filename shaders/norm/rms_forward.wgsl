// RMSNorm: y = x / sqrt(mean(x²) + epsilon) · gain, one workgroup per row of one head.

#import row_sum

struct Params {
    rows: u32,
    heads: u32,
    width: u32,
    x_stride: u32,
    x_offset: u32,
    y_stride: u32,
    y_offset: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

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
    let head = row % params.heads;
    let x_first = token * params.x_stride + params.x_offset + head * params.width;
    let y_first = token * params.y_stride + params.y_offset + head * params.width;
    var squares = 0.0;
    for (var i = local; i < params.width; i += SUM_SIZE) {
        let value = x[x_first + i];
        squares = fma(value, value, squares);
    }
    let mean = row_sum(local, squares) / f32(params.width);
    let scale = 1.0 / sqrt(mean + params.epsilon);
    for (var i = local; i < params.width; i += SUM_SIZE) {
        y[y_first + i] = x[x_first + i] * scale * gain[i];
    }
}
