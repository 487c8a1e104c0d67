// Rotary embedding (Su et al. 2021) in place: the pair (a, b) of columns (i, i + head_dim / 2) of each head becomes
// (a cos - b sin, b cos + a sin) with the table's angle for the token's position; the inverse turns back, which is the
// transpose that backward needs.

#import flat_index

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    x_stride: u32,
    x_offset: u32,
    // 0: turn; 1: turn back.
    inverse: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// cos and sin, [positions, head_dim / 2].
@group(0) @binding(1) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pairs = params.head_dim / 2u;
    let n = flat_index(global, groups, WG_SIZE);
    if n >= params.tokens * params.heads * pairs {
        return;
    }
    let pair = n % pairs;
    let head = n / pairs % params.heads;
    let token = n / pairs / params.heads;
    let angle = table[positions[token] * pairs + pair];
    let sine = select(angle.y, -angle.y, params.inverse == 1u);
    let first = token * params.x_stride + params.x_offset + head * params.head_dim + pair;
    let second = first + pairs;
    let a = x[first];
    let b = x[second];
    x[first] = a * angle.x - b * sine;
    x[second] = b * angle.x + a * sine;
}
