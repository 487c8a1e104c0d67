// A bias, before a product is added to it: y[t, i] = row[i].

#import flat_index

struct Params {
    count: u32,
    width: u32,
    stride: u32,
    offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> row: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = flat_index(global, groups, WG_SIZE);
    if i < params.count {
        y[i / params.width * params.stride + params.offset + i % params.width] = row[i % params.width];
    }
}
