// The sum of one number of each invocation of the workgroup, by a tree whose shape never changes. Every invocation gets
// it. All must call it together; the importing shader declares WG_SIZE, a power of two.

var<workgroup> sh_terms: array<f32, WG_SIZE>;

fn workgroup_sum(term: f32, local: u32) -> f32 {
    sh_terms[local] = term;
    workgroupBarrier();
    for (var width = WG_SIZE / 2u; width > 0u; width >>= 1u) {
        if local < width {
            sh_terms[local] += sh_terms[local + width];
        }
        workgroupBarrier();
    }
    let sum = sh_terms[0];
    // The next sum overwrites what slower invocations may still be reading.
    workgroupBarrier();
    return sum;
}
