// Selective synaptic dampening (Foster et al. 2024) of the selected weights: w *= min(lambda F / F_forget, 1), rounded once.
// An invocation owns a word of the packed weights, and words without a selected weight are not touched.

#permute ELEMENT f32 f16 bf16
#import element
#import pack_element
#import importance_ratio
#import flat_index

struct Params {
    count: u32,
    forget_scale: f32,
    retain_scale: f32,
    // F = blend F_forget + (1 - blend) F_retain.
    blend: f32,
    lambda: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> weights: array<u32>;
@group(0) @binding(2) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read> forget: array<f32>;
@group(0) @binding(4) var<storage, read> retain: array<f32>;

const WG_SIZE = 256u;
const BITS = 32u;
const ONE = 0x3f800000u;

// The bits of min(lambda F / F_forget, 1). What the forget set does not need, or what has no valid importance, stays.
fn factor(i: u32) -> u32 {
    let own = importance(forget[i], params.forget_scale);
    let others = blended(own, importance(retain[i], params.retain_scale), params.blend);
    if own == 0u || own >= INFINITY || others >= INFINITY {
        return ONE;
    }
    let wanted = bitcast<u32>(flushed_product(bitcast<f32>(others), params.lambda));
    if wanted >= own {
        return ONE;
    }
    if wanted == 0u {
        return 0u;
    }
    // The quotient marks what is too small for a factor, which a large weight would show on devices that keep it.
    let quotient_bits = quotient(wanted, own);
    return select(0u, quotient_bits, quotient_bits >= LEAST_RESULT);
}

fn dampened(word: u32, half: u32, i: u32) -> u32 {
    let weight = unpack_element(word, half);
    let by = factor(i);
    // A weight that keeps its value keeps its bits; so does one that is not finite, as infinity times zero is no number.
    if by == ONE || (bitcast<u32>(weight) & MAGNITUDE) >= INFINITY {
        return word;
    }
    return pack_element(word, half, flushed_product(weight, bitcast<f32>(by)));
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let place = flat_index(global, groups, WG_SIZE);
    let first = place * ELEMENTS_PER_WORD;
    if first >= params.count {
        return;
    }
    let selected = extractBits(mask[first / BITS], first % BITS, ELEMENTS_PER_WORD);
    if selected == 0u {
        return;
    }
    var word = weights[place];
    for (var half = 0u; half < ELEMENTS_PER_WORD; half++) {
        if extractBits(selected, half, 1u) == 1u && first + half < params.count {
            word = dampened(word, half, first + half);
        }
    }
    weights[place] = word;
}
