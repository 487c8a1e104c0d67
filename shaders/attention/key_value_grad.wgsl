// Gradients at one key and value of one shared head per workgroup: the sum over the group's query heads, and over the
// sample's later queries, in order. With p and s as in query_grad: dk = scale · Σ s q, dv = Σ p d_out.

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
@group(0) @binding(3) var<storage, read> d_out: array<f32>;
@group(0) @binding(4) var<storage, read> log_sums: array<f32>;
@group(0) @binding(5) var<storage, read> row_dots: array<f32>;
@group(0) @binding(6) var<storage, read_write> d_qkv: array<f32>;

#import heads

var<workgroup> sh_key: array<f32, MAX_HEAD_DIM>;
var<workgroup> sh_value: array<f32, MAX_HEAD_DIM>;
var<workgroup> sh_weights: array<f32, BLOCK>;
var<workgroup> sh_slopes: array<f32, BLOCK>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile = group.x / TILE * 4u;
    let in_tile = group.x % TILE;
    if in_tile >= tiles[tile + 1u] {
        return;
    }
    let key = tiles[tile] + in_tile;
    let end = tiles[tile + 3u];
    let kv_head = group.y;
    for (var d = local; d < params.head_dim; d += BLOCK) {
        sh_key[d] = qkv[key_place(key, kv_head) + d];
        sh_value[d] = qkv[value_place(key, kv_head) + d];
    }
    workgroupBarrier();

    var d_key = array<f32, 4>(0.0, 0.0, 0.0, 0.0);
    var d_value = array<f32, 4>(0.0, 0.0, 0.0, 0.0);
    let shared_by = params.heads / params.kv_heads;
    for (var head = kv_head * shared_by; head < (kv_head + 1u) * shared_by; head++) {
        for (var first = key; first < end; first += BLOCK) {
            let token = first + local;
            if token < end {
                let row = token * params.heads + head;
                var score = 0.0;
                var pulled = 0.0;
                for (var d = 0u; d < params.head_dim; d++) {
                    score = fma(qkv[query_place(token, head) + d], sh_key[d], score);
                    pulled = fma(d_out[row * params.head_dim + d], sh_value[d], pulled);
                }
                let weight = exp(score * params.scale - log_sums[row]);
                sh_weights[local] = weight;
                sh_slopes[local] = weight * (pulled - row_dots[row]) * params.scale;
            }
            workgroupBarrier();
            let count = min(BLOCK, end - first);
            for (var part = 0u; part < 4u; part++) {
                let d = local + part * BLOCK;
                if d < params.head_dim {
                    for (var j = 0u; j < count; j++) {
                        let row = (first + j) * params.heads + head;
                        d_key[part] = fma(sh_slopes[j], qkv[query_place(first + j, head) + d], d_key[part]);
                        d_value[part] = fma(sh_weights[j], d_out[row * params.head_dim + d], d_value[part]);
                    }
                }
            }
            // The next block overwrites weights and slopes.
            workgroupBarrier();
        }
    }
    for (var part = 0u; part < 4u; part++) {
        let d = local + part * BLOCK;
        if d < params.head_dim {
            d_qkv[key_place(key, kv_head) + d] = d_key[part];
            d_qkv[value_place(key, kv_head) + d] = d_value[part];
        }
    }
}
