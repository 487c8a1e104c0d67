// partials[b] = Σ x[i]² over the BLOCK elements of block b: the host adds the partials in float64.

#permute REDUCTION tree 8 16 32 64
#import workgroup_reduce

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

const WG_SIZE = 256u;
const BLOCK = 4096u;

@compute @workgroup_size(WG_SIZE)
fn main(at: Invocation) {
    let local = at.local;
    let block = at.group.x + at.group.y * at.groups.x;
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
    let whole = workgroup_sum(sum, at);
    if exists && local == 0u {
        partials[block] = whole;
    }
}
