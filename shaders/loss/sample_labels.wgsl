// Draws a token from each position's distribution, a slice of the vocabulary at a time, by the Gumbel-max trick
// (Gumbel 1954): the largest of logit − ln(−ln u) with a uniform u for each column. u is a hash of the seed, the token's
// place in the data set and the column, so that a draw depends on nothing else. One workgroup per token.

#import best

struct Params {
    tokens: u32,
    width: u32,
    first_column: u32,
    seed_low: u32,
    seed_high: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> best: array<u32>;

// PCG's output permutation as a hash (Jarzynski and Olano 2020).
fn hash(value: u32) -> u32 {
    let state = value * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let token = group.x;
    let seed = hash(params.seed_low ^ hash(params.seed_high));
    let place = hash(keys[token * 2u] ^ hash(keys[token * 2u + 1u] ^ seed));
    var score = bitcast<f32>(best[token * 2u]);
    var column = best[token * 2u + 1u];
    for (var i = local; i < params.width; i += WG_SIZE) {
        // 23 bits and a half: strictly between 0 and 1.
        let uniform_value = (f32(hash((params.first_column + i) ^ place) >> 9u) + 0.5) / 8388608.0;
        let noisy = logits[token * params.width + i] - log(-log(uniform_value));
        if better(noisy, params.first_column + i, score, column) {
            score = noisy;
            column = params.first_column + i;
        }
    }
    find_best(local, score, column);
    if local == 0u {
        best[token * 2u] = bitcast<u32>(sh_scores[0]);
        best[token * 2u + 1u] = sh_columns[0];
    }
}
