// Folds a slice of each token's logits l into what the moments of its log-probabilities, under its own distribution, are made
// of: running maximum m, Σ e^(l − m), the target's logit, Σ e^(l − m) (l − m) and Σ e^(l − m) (l − m)². One workgroup per
// token. Aligned blocks of BLOCK columns are reduced in a fixed tree and folded in order, so that the bits of the result do
// not depend on how the vocabulary was sliced.

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
// The exponential of this is nothing, and its square is still finite.
const FARTHEST = -120.0;

@compute @workgroup_size(WG_SIZE)
fn main(at: Invocation) {
    let local = at.local;
    let token = at.group.x + at.group.y * at.groups.x;
    if token >= params.tokens {
        return;
    }
    let row = token * params.width;
    var maximum = state[token * 5u];
    var sum = state[token * 5u + 1u];
    var first_moment = state[token * 5u + 3u];
    var second_moment = state[token * 5u + 4u];
    for (var first = 0u; first < params.width; first += BLOCK) {
        let end = min(first + BLOCK, params.width);
        var highest = LOWEST;
        for (var column = first + local; column < end; column += WG_SIZE) {
            highest = max(highest, logits[row + column]);
        }
        highest = max(maximum, workgroup_max(highest, at));
        var exponentials = 0.0;
        var firsts = 0.0;
        var seconds = 0.0;
        for (var column = first + local; column < end; column += WG_SIZE) {
            let below = max(logits[row + column] - highest, FARTHEST);
            let exponential = exp(below);
            exponentials += exponential;
            firsts += exponential * below;
            seconds += exponential * below * below;
        }
        exponentials = workgroup_sum(exponentials, at);
        firsts = workgroup_sum(firsts, at);
        seconds = workgroup_sum(seconds, at);
        // What was below the old maximum is by so much further below the new one.
        let fall = max(maximum - highest, FARTHEST);
        let scale = exp(fall);
        second_moment = scale * (second_moment + fall * (2.0 * first_moment + fall * sum)) + seconds;
        first_moment = scale * (first_moment + fall * sum) + firsts;
        sum = scale * sum + exponentials;
        maximum = highest;
    }
    if local == 0u {
        state[token * 5u] = maximum;
        state[token * 5u + 1u] = sum;
        state[token * 5u + 3u] = first_moment;
        state[token * 5u + 4u] = second_moment;
        // Below the slice, and without a target, the difference is a large number.
        let target_column = targets[token] - params.first_column;
        if target_column < params.width {
            state[token * 5u + 2u] = logits[row + target_column];
        }
    }
}
