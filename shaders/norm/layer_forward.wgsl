// LayerNorm: y = (x − mean) / sqrt(variance + epsilon) · gain + bias, one workgroup per row.

#import row_sum

struct Params {
    rows: u32,
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
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

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
    let x_first = row * params.x_stride + params.x_offset;
    let y_first = row * params.y_stride + params.y_offset;
    var sum = 0.0;
    for (var i = local; i < params.width; i += SUM_SIZE) {
        sum += x[x_first + i];
    }
    let mean = row_sum(local, sum) / f32(params.width);
    // The mean first, then the squares around it: the short formula cancels.
    var squares = 0.0;
    for (var i = local; i < params.width; i += SUM_SIZE) {
        let centred = x[x_first + i] - mean;
        squares = fma(centred, centred, squares);
    }
    let scale = 1.0 / sqrt(row_sum(local, squares) / f32(params.width) + params.epsilon);
    for (var i = local; i < params.width; i += SUM_SIZE) {
        y[y_first + i] = fma((x[x_first + i] - mean) * scale, gain[i], bias[i]);
    }
}
