// Selects the weights with F_forget > 0 and F_forget / F > threshold: bit i % 32 of word i / 32 of the mask.

#import importance_ratio

struct Params {
    count: u32,
    forget_scale: f32,
    retain_scale: f32,
    // F = blend F_forget + (1 - blend) F_retain.
    blend: f32,
    // The bits of the threshold, which is not negative.
    threshold: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> forget: array<f32>;
@group(0) @binding(2) var<storage, read> retain: array<f32>;
@group(0) @binding(3) var<storage, read_write> mask: array<u32>;

const WG_SIZE = 256u;
const BITS = 32u;
const WORDS = WG_SIZE / BITS;

var<workgroup> sh_words: array<atomic<u32>, WORDS>;

fn is_above(i: u32) -> bool {
    let own = importance(forget[i], params.forget_scale);
    let denominator = blended(own, importance(retain[i], params.retain_scale), params.blend);
    return own > 0u && own < INFINITY && denominator < INFINITY && ratio(own, denominator) > params.threshold;
}

@compute @workgroup_size(WG_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let number = group.x + group.y * groups.x;
    let i = number * WG_SIZE + local;
    if i < params.count && is_above(i) {
        atomicOr(&sh_words[local / BITS], 1u << (local % BITS));
    }
    workgroupBarrier();
    let word = number * WORDS + local;
    if local < WORDS && word * BITS < params.count {
        mask[word] = atomicLoad(&sh_words[local]);
    }
}
