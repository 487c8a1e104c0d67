// y[t, i] = row[i]: a bias in every token's row, for a product to be added to.

#import flat_index

struct Params {
    tokens: u32,
    width: u32,
    y_stride: u32,
    y_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> row: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let k = flat_index(global, groups, WG_SIZE);
    if k < params.tokens * params.width {
        let i = k % params.width;
        y[k / params.width * params.y_stride + params.y_offset + i] = row[i];
    }
}
