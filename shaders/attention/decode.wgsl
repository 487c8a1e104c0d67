// Attention of one new token per sequence to the cached keys and values of its sequence. One workgroup per (query head,
// sequence); the softmax is taken online, as in attention/forward.

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    scale: f32,
    // Rows of the cache that belong to one sequence.
    capacity: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
// Keys to attend to, for each sequence.
@group(0) @binding(2) var<storage, read> lengths: array<u32>;
@group(0) @binding(3) var<storage, read> keys: array<f32>;
@group(0) @binding(4) var<storage, read> values: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

// Keys of a block: one per invocation.
const WG_SIZE = 64u;
const MAX_HEAD_DIM = 256u;
// An invocation owns the columns `local`, `local + WG_SIZE`, ... of the output.
const SUMS = MAX_HEAD_DIM / WG_SIZE;
// Below every score.
const LOWEST = -3.0e38;

var<workgroup> sh_query: array<f32, MAX_HEAD_DIM>;
// Scores, then their exponentials.
var<workgroup> sh_scores: array<f32, WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = group.x;
    let sequence = group.y;
    let kv_head = head / (params.heads / params.kv_heads);
    let kv_width = params.kv_heads * params.head_dim;
    let q_stride = (params.heads + 2u * params.kv_heads) * params.head_dim;
    let first = sequence * params.capacity;
    let length = min(lengths[sequence], params.capacity);

    for (var c = local; c < params.head_dim; c += WG_SIZE) {
        sh_query[c] = qkv[sequence * q_stride + head * params.head_dim + c];
    }
    workgroupBarrier();

    var largest = LOWEST;
    var weights = 0.0;
    var sums: array<f32, SUMS>;
    for (var block = 0u; block < length; block += WG_SIZE) {
        var score = LOWEST;
        if block + local < length {
            let row = (first + block + local) * kv_width + kv_head * params.head_dim;
            var product = 0.0;
            for (var c = 0u; c < params.head_dim; c++) {
                product = fma(sh_query[c], keys[row + c], product);
            }
            score = params.scale * product;
        }
        sh_scores[local] = score;
        workgroupBarrier();
        var now_largest = largest;
        for (var k = 0u; k < WG_SIZE; k++) {
            now_largest = max(now_largest, sh_scores[k]);
        }
        // All have read the scores before they become weights.
        workgroupBarrier();
        let weight = exp(score - now_largest);
        sh_scores[local] = select(0.0, weight, block + local < length);
        workgroupBarrier();
        let shrink = exp(largest - now_largest);
        largest = now_largest;
        weights *= shrink;
        for (var n = 0u; n < SUMS; n++) {
            sums[n] *= shrink;
        }
        for (var k = 0u; k < min(WG_SIZE, length - block); k++) {
            let row = (first + block + k) * kv_width + kv_head * params.head_dim;
            weights += sh_scores[k];
            for (var n = 0u; n < SUMS; n++) {
                let column = local + n * WG_SIZE;
                if column < params.head_dim {
                    sums[n] = fma(sh_scores[k], values[row + column], sums[n]);
                }
            }
        }
        // The next block overwrites what slower invocations may still be reading.
        workgroupBarrier();
    }
    for (var n = 0u; n < SUMS; n++) {
        let column = local + n * WG_SIZE;
        if column < params.head_dim {
            out[(sequence * params.heads + head) * params.head_dim + column] = sums[n] / weights;
        }
    }
}
