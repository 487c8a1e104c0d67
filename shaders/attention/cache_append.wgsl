// Copies the keys and values of a joint buffer into a cache: row slots[t] of it receives token t's.

#import flat_index

struct Params {
    tokens: u32,
    // Elements of one token's keys.
    width: u32,
    // Elements from one token of qkv to the next, and the first of its keys.
    stride: u32,
    k_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> keys: array<f32>;
@group(0) @binding(4) var<storage, read_write> values: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = flat_index(global, groups, WG_SIZE);
    if i < params.tokens * params.width {
        let token = i / params.width;
        let column = i % params.width;
        let key = token * params.stride + params.k_offset + column;
        let place = slots[token] * params.width + column;
        keys[place] = qkv[key];
        values[place] = qkv[key + params.width];
    }
}
