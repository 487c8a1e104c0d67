// The sum of one number from each invocation of a workgroup, in a fixed tree: the same order every time.

const SUM_SIZE = 256u;
var<workgroup> sh_sum: array<f32, SUM_SIZE>;

fn row_sum(local: u32, value: f32) -> f32 {
    sh_sum[local] = value;
    workgroupBarrier();
    for (var half = SUM_SIZE / 2u; half > 0u; half >>= 1u) {
        if local < half {
            sh_sum[local] += sh_sum[local + half];
        }
        workgroupBarrier();
    }
    let total = sh_sum[0];
    // The next sum must not begin before everyone has read this one.
    workgroupBarrier();
    return total;
}
