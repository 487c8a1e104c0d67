// Gradient at one query of one head per workgroup. With p = exp(scale · q·k − log_sum), D = Σ out · d_out and
// s = p (d_out·v − D): dq = scale · Σ s k over the sample's earlier keys. Writes D for the gradient at the keys.

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    tiles: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tiles: array<u32>;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;
@group(0) @binding(3) var<storage, read> out: array<f32>;
@group(0) @binding(4) var<storage, read> d_out: array<f32>;
@group(0) @binding(5) var<storage, read> log_sums: array<f32>;
@group(0) @binding(6) var<storage, read_write> row_dots: array<f32>;
@group(0) @binding(7) var<storage, read_write> d_qkv: array<f32>;

#import heads

var<workgroup> sh_query: array<f32, MAX_HEAD_DIM>;
var<workgroup> sh_d_out: array<f32, MAX_HEAD_DIM>;
var<workgroup> sh_slopes: array<f32, BLOCK>;
var<workgroup> sh_dot: f32;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile = group.x / TILE * 4u;
    let in_tile = group.x % TILE;
    if in_tile >= tiles[tile + 1u] {
        return;
    }
    let token = tiles[tile] + in_tile;
    let sample = tiles[tile + 2u];
    let head = group.y;
    let kv_head = head / (params.heads / params.kv_heads);
    let row = (token * params.heads + head) * params.head_dim;
    for (var d = local; d < params.head_dim; d += BLOCK) {
        sh_query[d] = qkv[query_place(token, head) + d];
        sh_d_out[d] = d_out[row + d];
    }
    workgroupBarrier();
    if local == 0u {
        var dot = 0.0;
        for (var d = 0u; d < params.head_dim; d++) {
            dot = fma(sh_d_out[d], out[row + d], dot);
        }
        sh_dot = dot;
        row_dots[token * params.heads + head] = dot;
    }
    workgroupBarrier();

    let log_sum = log_sums[token * params.heads + head];
    var gradient = array<f32, 4>(0.0, 0.0, 0.0, 0.0);
    for (var first = sample; first <= token; first += BLOCK) {
        let key = first + local;
        if key <= token {
            var score = 0.0;
            var pulled = 0.0;
            for (var d = 0u; d < params.head_dim; d++) {
                score = fma(sh_query[d], qkv[key_place(key, kv_head) + d], score);
                pulled = fma(sh_d_out[d], qkv[value_place(key, kv_head) + d], pulled);
            }
            sh_slopes[local] = exp(score * params.scale - log_sum) * (pulled - sh_dot) * params.scale;
        }
        workgroupBarrier();
        let count = min(BLOCK, token + 1u - first);
        for (var part = 0u; part < 4u; part++) {
            let d = local + part * BLOCK;
            if d < params.head_dim {
                for (var j = 0u; j < count; j++) {
                    gradient[part] = fma(sh_slopes[j], qkv[key_place(first + j, kv_head) + d], gradient[part]);
                }
            }
        }
        // The next block overwrites the slopes.
        workgroupBarrier();
    }
    for (var part = 0u; part < 4u; part++) {
        let d = local + part * BLOCK;
        if d < params.head_dim {
            d_qkv[query_place(token, head) + d] = gradient[part];
        }
    }
}
