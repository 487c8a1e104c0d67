// partials[b] = Σ x[i]² over the BLOCK elements of block b: the host adds the partials in float64.

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

const WG_SIZE = 256u;
const BLOCK = 4096u;

var<workgroup> sh_sums: array<f32, WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let block = group.x + group.y * groups.x;
    let begin = block * BLOCK;
    // A grid in two dimensions may hold more workgroups than there are blocks; the barriers below need whole workgroups.
    let exists = block < (params.count + BLOCK - 1u) / BLOCK;
    var sum = 0.0;
    if exists {
        let end = min(begin + BLOCK, params.count);
        for (var i = begin + local; i < end; i += WG_SIZE) {
            sum = fma(x[i], x[i], sum);
        }
    }
    sh_sums[local] = sum;
    for (var half = WG_SIZE / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local < half {
            sh_sums[local] += sh_sums[local + half];
        }
    }
    if exists && local == 0u {
        partials[block] = sh_sums[0];
    }
}
