// One importance of those of several forms: F[i] = their mean, their geometric mean, or the rank-th largest of them.
//
// A form's importance is forms[k, i] scales[k]. Where one of them is negative or not finite, so is the result: -1.

#permute HOW mean geometric ranked
#import importance_ratio
#import flat_index

struct Params {
    count: u32,
    forms: u32,
    // ranked: 1 is the largest.
    rank: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> forms: array<f32>;
@group(0) @binding(2) var<storage, read> scales: array<f32>;
@group(0) @binding(3) var<storage, read_write> combined: array<f32>;

const WG_SIZE = 256u;
const INVALID = -1.0;
const ONE = 0x3f800000u;

// The bits of the importance for form k.
fn of_form(k: u32, i: u32) -> u32 {
    return importance(forms[k * params.count + i], scales[k]);
}

#if HOW == mean
fn combine(i: u32) -> f32 {
    var sum = 0.0;
    for (var k = 0u; k < params.forms; k++) {
        sum += bitcast<f32>(of_form(k, i));
    }
    return flushed_product(sum, 1.0 / f32(params.forms));
}
#elif HOW == geometric
// Exponents are summed as integers, so that the logarithms of fractions keep all their digits.
fn combine(i: u32) -> f32 {
    var exponents = 0;
    var logarithms = 0.0;
    for (var k = 0u; k < params.forms; k++) {
        let bits = of_form(k, i);
        if bits == 0u {
            return 0.0;
        }
        exponents += i32(bits >> 23u) - 127;
        logarithms += log2(bitcast<f32>((bits & FRACTION) | ONE));
    }
    let all = i32(params.forms);
    // The largest whole exponent that is not above the mean.
    var whole = exponents / all;
    if exponents < whole * all {
        whole -= 1;
    }
    let rest = (f32(exponents - whole * all) + logarithms) / f32(all);
    return flushed_product(exp2(rest), bitcast<f32>(u32(whole + 127) << 23u));
}
#else
fn combine(i: u32) -> f32 {
    var found = 0u;
    for (var k = 0u; k < params.forms; k++) {
        let candidate = of_form(k, i);
        var above = 0u;
        var as_large = 0u;
        for (var other = 0u; other < params.forms; other++) {
            let bits = of_form(other, i);
            above += select(0u, 1u, bits > candidate);
            as_large += select(0u, 1u, bits >= candidate);
        }
        if above < params.rank && as_large >= params.rank {
            found = candidate;
        }
    }
    return bitcast<f32>(found);
}
#endif

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = flat_index(global, groups, WG_SIZE);
    if i >= params.count {
        return;
    }
    var valid = true;
    for (var k = 0u; k < params.forms; k++) {
        valid &= of_form(k, i) < INFINITY;
    }
    if valid {
        combined[i] = combine(i);
    } else {
        combined[i] = INVALID;
    }
}
