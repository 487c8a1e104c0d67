// Rotary embedding, in place: the pair (i, i + head_dim/2) of each head turns by its position's angle, or back.

#import flat_index

struct Params {
    pairs: u32,
    heads: u32,
    half_dim: u32,
    stride: u32,
    offset: u32,
    // 1: turn back, which is the transpose, for backward.
    inverse: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> angles: array<f32>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let n = flat_index(global, groups, WG_SIZE);
    if n >= params.pairs {
        return;
    }
    let pair = n % params.half_dim;
    let head = n / params.half_dim % params.heads;
    let token = n / params.half_dim / params.heads;
    let angle = (positions[token] * params.half_dim + pair) * 2u;
    let cosine = angles[angle];
    let sine = select(angles[angle + 1u], -angles[angle + 1u], params.inverse == 1u);
    let first = token * params.stride + params.offset + head * 2u * params.half_dim + pair;
    let a = x[first];
    let b = x[first + params.half_dim];
    x[first] = a * cosine - b * sine;
    x[first + params.half_dim] = b * cosine + a * sine;
}
