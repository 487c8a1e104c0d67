// The sum (or the maximum) of one number of each invocation of the workgroup, by a tree whose shape never changes. Every
// invocation gets it. All must call it together; the importing shader declares WG_SIZE, a power of two from 64 on.
//
// REDUCTION: `tree`, or the smallest subgroup that the device may form. Then one subgroup does the tree's last levels without
// barriers, in the same order, so that all variants have the same bits.

#if REDUCTION == tree
const SHARED_END = 1u;
#else
#require subgroups
const SHARED_END = #{REDUCTION}u;
#endif

struct Invocation {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
#if REDUCTION != tree
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
#endif
}

var<workgroup> sh_terms: array<f32, WG_SIZE>;

fn workgroup_sum(term: f32, at: Invocation) -> f32 {
    sh_terms[at.local] = term;
    workgroupBarrier();
    for (var width = WG_SIZE / 2u; width >= SHARED_END; width >>= 1u) {
        if at.local < width {
            sh_terms[at.local] = sh_terms[at.local] + sh_terms[at.local + width];
        }
        workgroupBarrier();
    }
#if REDUCTION != tree
    if at.subgroup == 0u {
        var rest = 0.0;
        if at.lane < SHARED_END {
            rest = sh_terms[at.lane];
        }
        for (var width = SHARED_END / 2u; width > 0u; width >>= 1u) {
            rest = rest + subgroupShuffleDown(rest, width);
        }
        if at.lane == 0u {
            sh_terms[0] = rest;
        }
    }
    workgroupBarrier();
#endif
    let result = sh_terms[0];
    // The next reduction overwrites what slower invocations may still be reading.
    workgroupBarrier();
    return result;
}

fn workgroup_max(term: f32, at: Invocation) -> f32 {
    sh_terms[at.local] = term;
    workgroupBarrier();
    for (var width = WG_SIZE / 2u; width >= SHARED_END; width >>= 1u) {
        if at.local < width {
            sh_terms[at.local] = max(sh_terms[at.local], sh_terms[at.local + width]);
        }
        workgroupBarrier();
    }
#if REDUCTION != tree
    if at.subgroup == 0u {
        var rest = 0.0;
        if at.lane < SHARED_END {
            rest = sh_terms[at.lane];
        }
        for (var width = SHARED_END / 2u; width > 0u; width >>= 1u) {
            rest = max(rest, subgroupShuffleDown(rest, width));
        }
        if at.lane == 0u {
            sh_terms[0] = rest;
        }
    }
    workgroupBarrier();
#endif
    let result = sh_terms[0];
    // The next reduction overwrites what slower invocations may still be reading.
    workgroupBarrier();
    return result;
}
