// d_gate = dy · up · act'(gate) and d_up = dy · act(gate), side by side as gate and up are.

#permute ACTIVATION gelu gelu_tanh silu relu
#import activation
#import flat_index

struct Params {
    tokens: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate_up: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> d_gate_up: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = flat_index(global, groups, WG_SIZE);
    if i < params.tokens * params.width {
        let gate = i / params.width * 2u * params.width + i % params.width;
        d_gate_up[gate] = dy[i] * gate_up[gate + params.width] * slope(gate_up[gate]);
        d_gate_up[gate + params.width] = dy[i] * activate(gate_up[gate]);
    }
}
