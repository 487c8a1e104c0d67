// Folds a slice of each token's logits into its running maximum, sum of exp(l − maximum) and target's logit. One workgroup
// per token. Aligned blocks of BLOCK columns are reduced in a fixed tree and folded in order, so that the bits of the
// result do not depend on how the vocabulary was sliced.

struct Params {
    tokens: u32,
    width: u32,
    first_column: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> state: array<f32>;

const BLOCK = 512u;
const WG_SIZE = 256u;
const LOWEST = -3.0e38;

var<workgroup> sh_values: array<f32, WG_SIZE>;

// The maximum (or the sum) over the workgroup.
fn reduce(local: u32, value: f32, maximum: bool) -> f32 {
    sh_values[local] = value;
    workgroupBarrier();
    for (var half = WG_SIZE / 2u; half > 0u; half >>= 1u) {
        if local < half {
            let a = sh_values[local];
            let b = sh_values[local + half];
            sh_values[local] = select(a + b, max(a, b), maximum);
        }
        workgroupBarrier();
    }
    let result = sh_values[0];
    // The next reduction must not begin before everyone has read this one.
    workgroupBarrier();
    return result;
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
    let row = token * params.width;
    var maximum = state[token * 3u];
    var sum = state[token * 3u + 1u];
    for (var first = 0u; first < params.width; first += BLOCK) {
        let end = min(first + BLOCK, params.width);
        var highest = LOWEST;
        for (var column = first + local; column < end; column += WG_SIZE) {
            highest = max(highest, logits[row + column]);
        }
        highest = max(maximum, reduce(local, highest, true));
        var exponentials = 0.0;
        for (var column = first + local; column < end; column += WG_SIZE) {
            exponentials += exp(logits[row + column] - highest);
        }
        exponentials = reduce(local, exponentials, false);
        sum = sum * exp(maximum - highest) + exponentials;
        maximum = highest;
    }
    if local == 0u {
        state[token * 3u] = maximum;
        state[token * 3u + 1u] = sum;
        // Below the slice, and without a target, the difference is a large number.
        let target_column = targets[token] - params.first_column;
        if target_column < params.width {
            state[token * 3u + 2u] = logits[row + target_column];
        }
    }
}
