// A step of AdamW (Loshchilov and Hutter 2019) on the selected weights. Their master values and moments lie in state[s, :] =
// master, first moment, second moment, where s counts the selected weights in order; the packed weight is the rounded
// master. An invocation owns a word of the packed weights, and words without a selected weight are not touched.

#permute ELEMENT f32 f16 bf16
#import pack_element
#import flat_index

struct Params {
    count: u32,
    learning_rate: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    weight_decay: f32,
    bias_correction1: f32,
    bias_correction2: f32,
    gradient_scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> weights: array<u32>;
@group(0) @binding(2) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read> ranks: array<u32>;
@group(0) @binding(4) var<storage, read> gradient: array<f32>;
@group(0) @binding(5) var<storage, read_write> state: array<f32>;

const WG_SIZE = 256u;
const BITS = 32u;

// The new master value of weight i, the s-th of the selected ones.
fn advance(i: u32, s: u32) -> f32 {
    let g = gradient[i] * params.gradient_scale;
    let master = state[3u * s];
    let first = params.beta1 * state[3u * s + 1u] + (1.0 - params.beta1) * g;
    let second = params.beta2 * state[3u * s + 2u] + (1.0 - params.beta2) * g * g;
    let direction = first / params.bias_correction1 / (sqrt(second / params.bias_correction2) + params.epsilon);
    let stepped = master - params.learning_rate * (direction + params.weight_decay * master);
    state[3u * s] = stepped;
    state[3u * s + 1u] = first;
    state[3u * s + 2u] = second;
    return stepped;
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let place = flat_index(global, groups, WG_SIZE);
    let first = place * ELEMENTS_PER_WORD;
    if first >= params.count {
        return;
    }
    let bits = mask[first / BITS];
    let selected = extractBits(bits, first % BITS, ELEMENTS_PER_WORD);
    if selected == 0u {
        return;
    }
    var s = ranks[first / BITS] + countOneBits(extractBits(bits, 0u, first % BITS));
    var word = weights[place];
    for (var half = 0u; half < ELEMENTS_PER_WORD; half++) {
        if extractBits(selected, half, 1u) == 1u && first + half < params.count {
            word = pack_element(word, half, advance(first + half, s));
            s += 1u;
        }
    }
    weights[place] = word;
}
