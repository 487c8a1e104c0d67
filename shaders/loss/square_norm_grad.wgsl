// Gradient of the weighted squared norm at a slice of the logits, in place: weight · d‖l‖²/dl = 2 weight l.

#import flat_index

struct Params {
    tokens: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let n = flat_index(global, groups, WG_SIZE);
    if n >= params.tokens * params.width {
        return;
    }
    let weight = weights[n / params.width];
    // A row that does not count is exactly zero, whatever its logits are.
    logits[n] = select(0.0, 2.0 * weight * logits[n], weight != 0.0);
}
