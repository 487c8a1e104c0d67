// Gated activation (Shazeer 2020): y[t, i] = f(gate[t, i]) up[t, i], gate and up side by side in one buffer.

#permute ACTIVATION gelu gelu_tanh silu relu
#import activation
#import flat_index

struct Params {
    tokens: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate_up: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = flat_index(global, groups, WG_SIZE);
    if i < params.tokens * params.width {
        // Row t of gate_up begins at 2 t width; i = t width + column.
        let gate = i + i / params.width * params.width;
        y[i] = activate(gate_up[gate]) * gate_up[gate + params.width];
    }
}
