// Gradient of a gated activation: dgate[t, i] = dy[t, i] up[t, i] f'(gate[t, i]) and dup[t, i] = dy[t, i] f(gate[t, i]).

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
        // Row t of gate_up begins at 2 t width; i = t width + column.
        let gate = i + i / params.width * params.width;
        let up = gate + params.width;
        d_gate_up[gate] = dy[i] * gate_up[up] * activation_derivative(gate_up[gate]);
        d_gate_up[up] = dy[i] * activate(gate_up[gate]);
    }
}
