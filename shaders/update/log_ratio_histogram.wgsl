// How many weights the forget set needs how much more than what they are compared with: adds to a histogram of
// F_forget / F on a logarithmic scale. A bin is an exponent and the upper 7 bits of a fraction, so that every edge is an
// exact number. A workgroup counts a piece of the weights in its own memory, then adds to the histogram: integers, so that
// the order does not matter.

#import importance_ratio

struct Params {
    count: u32,
    forget_scale: f32,
    retain_scale: f32,
    // F = blend F_forget + (1 - blend) F_retain.
    blend: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> forget: array<f32>;
@group(0) @binding(2) var<storage, read> retain: array<f32>;
@group(0) @binding(3) var<storage, read_write> histogram: array<atomic<u32>>;

const WG_SIZE = 256u;
// Weights that a workgroup counts.
const PIECE = 65536u;
// The bits of 2^-24 and 2^36, between which the bins lie, and what a fraction has below its upper 7 bits.
const LEAST_EDGE = 0x33800000u;
const LAST_EDGE = 0x51800000u;
const BELOW_BIN = 16u;
const EMPTY = 0u;
const ZERO = 1u;
const UNDERFLOW = 2u;
const FIRST = 3u;
const OVERFLOW = FIRST + ((LAST_EDGE - LEAST_EDGE) >> BELOW_BIN);
const INFINITE = OVERFLOW + 1u;
const INVALID = OVERFLOW + 2u;
const BINS = OVERFLOW + 3u;

var<workgroup> sh_counts: array<atomic<u32>, BINS>;

fn bin(forget_bits: u32, denominator: u32) -> u32 {
    if forget_bits >= INFINITY || denominator >= INFINITY {
        return INVALID;
    }
    if forget_bits == 0u {
        return select(ZERO, EMPTY, denominator == 0u);
    }
    let bits = ratio(forget_bits, denominator);
    if bits < LEAST_EDGE {
        return UNDERFLOW;
    }
    if bits >= LAST_EDGE {
        return select(OVERFLOW, INFINITE, bits == INFINITY);
    }
    return FIRST + ((bits - LEAST_EDGE) >> BELOW_BIN);
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = group.x * PIECE;
    let end = first + min(PIECE, params.count - first);
    for (var i = first + local; i < end; i += WG_SIZE) {
        let own = importance(forget[i], params.forget_scale);
        let others = importance(retain[i], params.retain_scale);
        atomicAdd(&sh_counts[bin(own, blended(own, others, params.blend))], 1u);
    }
    workgroupBarrier();
    for (var i = local; i < BINS; i += WG_SIZE) {
        let counted = atomicLoad(&sh_counts[i]);
        if counted > 0u {
            atomicAdd(&histogram[i], counted);
        }
    }
}
