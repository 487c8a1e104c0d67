// Causal attention of one query of one head per workgroup, with an online softmax over blocks of keys
// (Milakov and Gimelshein 2018; Dao et al. 2022): out = Σ softmax(scale · q·k) v, and the log-sum-exp of the scores.

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
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read_write> log_sums: array<f32>;

#import heads

var<workgroup> sh_query: array<f32, MAX_HEAD_DIM>;
var<workgroup> sh_scores: array<f32, BLOCK>;
var<workgroup> sh_weights: array<f32, BLOCK>;

const LOWEST = -3.0e38;

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
    for (var d = local; d < params.head_dim; d += BLOCK) {
        sh_query[d] = qkv[query_place(token, head) + d];
    }
    workgroupBarrier();

    var maximum = LOWEST;
    var sum = 0.0;
    // The invocation's columns of the result: local, local + BLOCK, ...
    var mixed = array<f32, 4>(0.0, 0.0, 0.0, 0.0);
    for (var first = sample; first <= token; first += BLOCK) {
        let key = first + local;
        var score = LOWEST;
        if key <= token {
            var product = 0.0;
            let place = key_place(key, kv_head);
            for (var d = 0u; d < params.head_dim; d++) {
                product = fma(sh_query[d], qkv[place + d], product);
            }
            score = product * params.scale;
        }
        sh_scores[local] = score;
        workgroupBarrier();
        // Everyone finds the same maximum and the same sum, in the order of the keys.
        let count = min(BLOCK, token + 1u - first);
        var highest = maximum;
        for (var j = 0u; j < count; j++) {
            highest = max(highest, sh_scores[j]);
        }
        if local < count {
            sh_weights[local] = exp(score - highest);
        }
        workgroupBarrier();
        let kept = exp(maximum - highest);
        sum *= kept;
        for (var j = 0u; j < count; j++) {
            sum += sh_weights[j];
        }
        for (var part = 0u; part < 4u; part++) {
            let d = local + part * BLOCK;
            if d < params.head_dim {
                var value = mixed[part] * kept;
                for (var j = 0u; j < count; j++) {
                    value = fma(sh_weights[j], qkv[value_place(first + j, kv_head) + d], value);
                }
                mixed[part] = value;
            }
        }
        maximum = highest;
        // The next block overwrites scores and weights.
        workgroupBarrier();
    }
    for (var part = 0u; part < 4u; part++) {
        let d = local + part * BLOCK;
        if d < params.head_dim {
            out[(token * params.heads + head) * params.head_dim + d] = mixed[part] / sum;
        }
    }
    if local == 0u {
        log_sums[token * params.heads + head] = maximum + log(sum);
    }
}
