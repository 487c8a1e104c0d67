// Pulls heads' attention maps A towards the identity, in place: A' = (1 - u) A + u I, of which the output is
// (1 - u) A V + u V. Every variant has a knob u for each head; samples are numbered variant by variant.

#import flat_index

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    // Query heads that share one head of values.
    group: u32,
    // Elements from one token of qkv to the next, and the first of its values.
    stride: u32,
    v_offset: u32,
    // Samples of a variant.
    samples: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> knobs: array<f32>;
// Sample number and position of each token.
@group(0) @binding(2) var<storage, read> keys: array<u32>;
@group(0) @binding(3) var<storage, read> qkv: array<f32>;
@group(0) @binding(4) var<storage, read_write> mixed: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = flat_index(global, groups, WG_SIZE);
    let width = params.heads * params.head_dim;
    if i < params.tokens * width {
        let token = i / width;
        let head = i % width / params.head_dim;
        let knob = knobs[keys[2u * token] / params.samples * params.heads + head];
        // A head that is not pulled keeps its bits.
        if knob != 0.0 {
            let column = head / params.group * params.head_dim + i % params.head_dim;
            let value = qkv[token * params.stride + params.v_offset + column];
            mixed[i] = (1.0 - knob) * mixed[i] + knob * value;
        }
    }
}
