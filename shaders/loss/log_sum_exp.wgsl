// Folds a slice of each token's logits into its running maximum, sum of exp(l − maximum) and target's logit. One workgroup
// per token. Aligned blocks of BLOCK columns are reduced in a fixed tree and folded in order, so that the bits of the
// result do not depend on how the vocabulary was sliced.

#permute REDUCTION tree 8 16 32 64
#import workgroup_reduce

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

@compute @workgroup_size(WG_SIZE)
fn main(at: Invocation) {
    let local = at.local;
    let token = at.group.x + at.group.y * at.groups.x;
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
        highest = max(maximum, workgroup_max(highest, at));
        var exponentials = 0.0;
        for (var column = first + local; column < end; column += WG_SIZE) {
            exponentials += exp(logits[row + column] - highest);
        }
        exponentials = workgroup_sum(exponentials, at);
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
