// Copies the keys and values of joint rows into their places in a cache, for decoding.

#import flat_index

struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
// The cache's row for each token.
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> keys: array<f32>;
@group(0) @binding(4) var<storage, read_write> values: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let n = flat_index(global, groups, WG_SIZE);
    let width = params.kv_heads * params.head_dim;
    if n >= params.tokens * width {
        return;
    }
    let token = n / width;
    let column = n % width;
    let row = token * (params.heads + 2u * params.kv_heads) * params.head_dim + params.heads * params.head_dim;
    let place = slots[token] * width + column;
    keys[place] = qkv[row + column];
    values[place] = qkv[row + width + column];
}
