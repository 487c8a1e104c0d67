// Draws a token from each position's distribution, a slice of the vocabulary at a time, by the Gumbel-max trick
// (Gumbel 1954): the largest of logit − T ln(−ln(1 − v)) with a uniform v for each column and the temperature T, which draws
// from the softmax of logits divided by T. v is a function of the seed, the
// token's place in the data set and the column, so that a draw depends on nothing else. One workgroup per token.

#import best
#import philox

struct Params {
    tokens: u32,
    width: u32,
    // A multiple of PER_COUNTER.
    first_column: u32,
    seed_low: u32,
    seed_high: u32,
    // What logits are divided by: the noise is multiplied instead.
    temperature: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> best: array<u32>;

// Columns that share a counter of the generator.
const PER_COUNTER = 4u;
const TWO_TO_MINUS_32 = 2.3283064365386963e-10;
// Below this, the series of −ln(1 − v) is exact to a rounding.
const SERIES_BELOW = 0.0625;

// Strictly between 0 and 1, and held by an f32 exactly.
fn uniform_number(bits: u32) -> f32 {
    let kept = select(bits & 0xffffff00u, bits | 1u, bits < 0x1000000u);
    return f32(kept) * TWO_TO_MINUS_32;
}

// −ln(−ln(1 − v)). The largest values come from logarithms of numbers near 1, where a device's logarithm may be off by
// more than its result.
fn gumbel(v: f32) -> f32 {
    var exponential = -log(1.0 - v);
    if v < SERIES_BELOW {
        var series = 0.0;
        for (var n = 6.0; n > 0.0; n -= 1.0) {
            series = v * (series + 1.0 / n);
        }
        exponential = series;
    }
    return -log(exponential);
}

@compute @workgroup_size(WG_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let token = group.x + group.y * groups.x;
    if token >= params.tokens {
        return;
    }
    let seed = vec2<u32>(params.seed_low, params.seed_high);
    var score = bitcast<f32>(best[token * 2u]);
    var column = best[token * 2u + 1u];
    for (var i = local * PER_COUNTER; i < params.width; i += WG_SIZE * PER_COUNTER) {
        let counter = (params.first_column + i) / PER_COUNTER;
        let bits = philox(vec4<u32>(keys[token * 2u], keys[token * 2u + 1u], counter, 0u), seed);
        for (var k = 0u; k < PER_COUNTER && i + k < params.width; k++) {
            let noisy = logits[token * params.width + i + k] + params.temperature * gumbel(uniform_number(bits[k]));
            if better(noisy, params.first_column + i + k, score, column) {
                score = noisy;
                column = params.first_column + i + k;
            }
        }
    }
    find_best(local, score, column);
    if local == 0u {
        best[token * 2u] = bitcast<u32>(sh_scores[0]);
        best[token * 2u + 1u] = sh_columns[0];
    }
}
