// exponents[r]: the largest power of two by which row r may be multiplied so that it can be rounded to half precision: the
// largest magnitude comes to lie between 2^14 and 2^15. One workgroup per row.
//
// A row of zeros takes any power and says so with the largest, so that it does not count where rows share one.

struct Params {
    rows: u32,
    width: u32,
    stride: u32,
    offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> exponents: array<i32>;

const WG_SIZE = 128u;
const MAGNITUDE = 0x7fffffffu;
// An f32's exponent field for 2^14.
const HIGHEST = 141;
// Both a power and its inverse are normal numbers.
const LARGEST_POWER = 126;

// The bits of numbers without a sign are ordered as the numbers are.
var<workgroup> sh_largest: atomic<u32>;

@compute @workgroup_size(WG_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows {
        return;
    }
    let first = row * params.stride + params.offset;
    var largest = 0u;
    for (var i = local; i < params.width; i += WG_SIZE) {
        largest = max(largest, bitcast<u32>(x[first + i]) & MAGNITUDE);
    }
    atomicStore(&sh_largest, 0u);
    workgroupBarrier();
    atomicMax(&sh_largest, largest);
    workgroupBarrier();
    if local == 0u {
        let field = i32(atomicLoad(&sh_largest) >> 23u);
        exponents[row] = min(HIGHEST - field, LARGEST_POWER);
    }
}
