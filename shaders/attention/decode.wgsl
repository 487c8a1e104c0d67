// Attention of one new query per sequence over its cached keys and values, one query of one head per workgroup, with an
// online softmax over blocks of keys as in forward.

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    // Rows of the cache for each sequence.
    capacity: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
// Keys to attend to, for each sequence.
@group(0) @binding(2) var<storage, read> lengths: array<u32>;
@group(0) @binding(3) var<storage, read> keys: array<f32>;
@group(0) @binding(4) var<storage, read> values: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

#import heads

var<workgroup> sh_query: array<f32, MAX_HEAD_DIM>;
var<workgroup> sh_scores: array<f32, BLOCK>;
var<workgroup> sh_weights: array<f32, BLOCK>;

const LOWEST = -3.0e38;

fn cached(sequence: u32, token: u32, kv_head: u32) -> u32 {
    return ((sequence * params.capacity + token) * params.kv_heads + kv_head) * params.head_dim;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let sequence = group.x;
    let head = group.y;
    let length = lengths[sequence];
    let kv_head = head / (params.heads / params.kv_heads);
    for (var d = local; d < params.head_dim; d += BLOCK) {
        sh_query[d] = qkv[query_place(sequence, head) + d];
    }
    workgroupBarrier();

    var maximum = LOWEST;
    var sum = 0.0;
    // The invocation's columns of the result: local, local + BLOCK, ...
    var mixed = array<f32, 4>(0.0, 0.0, 0.0, 0.0);
    for (var first = 0u; first < length; first += BLOCK) {
        let key = first + local;
        var score = LOWEST;
        if key < length {
            var product = 0.0;
            for (var d = 0u; d < params.head_dim; d++) {
                product = fma(sh_query[d], keys[cached(sequence, key, kv_head) + d], product);
            }
            score = product * params.scale;
        }
        sh_scores[local] = score;
        workgroupBarrier();
        // Everyone finds the same maximum and the same sum, in the order of the keys.
        let count = min(BLOCK, length - first);
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
                    value = fma(sh_weights[j], values[cached(sequence, first + j, kv_head) + d], value);
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
            out[(sequence * params.heads + head) * params.head_dim + d] = mixed[part] / sum;
        }
    }
}
