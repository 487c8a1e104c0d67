// Gradient of the weighted cross-entropy at a slice of the logits, in place: weight · (softmax − [column = target]).

#import flat_index

struct Params {
    tokens: u32,
    width: u32,
    first_column: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> state: array<f32>;
@group(0) @binding(4) var<storage, read_write> logits: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let n = flat_index(global, groups, WG_SIZE);
    if n >= params.tokens * params.width {
        return;
    }
    let token = n / params.width;
    let column = params.first_column + n % params.width;
    let weight = weights[token];
    // A row without a target is exactly zero, whatever its logits are.
    var gradient = 0.0;
    if weight != 0.0 {
        let probability = exp(logits[n] - state[token * 3u]) / state[token * 3u + 1u];
        gradient = weight * (probability - select(0.0, 1.0, column == targets[token]));
    }
    logits[n] = gradient;
}
