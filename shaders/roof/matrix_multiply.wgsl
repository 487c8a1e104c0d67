// The roof of matrix units: products of fragments in registers, which touch no memory until their sums are read.
//
// Four fragments times four, as a subgroup has them in `linear/mixed_*`: sixteen sums hide the latency of a product. All
// elements of fragment i are (1 + i) / 4, so that sums of few rounds are exact. A device without matrix units runs an
// emulation, which is no roof.

#permute UNIT emulated matrix8 matrix16
#if UNIT == matrix16
#require f16 subgroups matrices16
const FRAGMENT = 16u;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
#elif UNIT == matrix8
#require f16 subgroups matrices8
const FRAGMENT = 8u;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;
#else
const FRAGMENT = 16u;
#endif

struct Params {
    // Products that are added to each sum.
    rounds: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

// Subgroups of 32 invocations each; the Rust side sees to it.
const SUBGROUP = 32u;
const SUBGROUPS = 4u;
const WG_SIZE = SUBGROUP * SUBGROUPS;
const SIZE = FRAGMENT * FRAGMENT;

fn element(fragment: u32) -> f32 {
    return 0.25 * f32(1u + fragment);
}

#if UNIT == emulated
@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>) {
    var total = 0.0;
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            for (var n = 0u; n < SIZE; n += SUBGROUP) {
                var sum = 0.0;
                for (var round = 0u; round < params.rounds; round++) {
                    for (var k = 0u; k < FRAGMENT; k++) {
                        sum = fma(element(i), element(j), sum);
                    }
                }
                total += sum;
            }
        }
    }
    sums[global.x] = total;
}
#else
var<workgroup> sh_left: array<f16, 4u * SIZE>;
var<workgroup> sh_right: array<f16, 4u * SIZE>;
var<workgroup> sh_sums: array<f32, SUBGROUPS * SIZE>;

// What an invocation adds up of the sums that its subgroup has stored.
fn part(own: u32, lane: u32) -> f32 {
    var total = 0.0;
    for (var n = lane; n < SIZE; n += SUBGROUP) {
        total += sh_sums[own + n];
    }
    return total;
}

@compute @workgroup_size(WG_SIZE)
fn main(
    @builtin(global_invocation_id) global: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    for (var n = local; n < 4u * SIZE; n += WG_SIZE) {
        sh_left[n] = f16(element(n / SIZE));
        sh_right[n] = f16(element(n / SIZE));
    }
    for (var n = local; n < SUBGROUPS * SIZE; n += WG_SIZE) {
        sh_sums[n] = 0.0;
    }
    workgroupBarrier();
    let own = subgroup * SIZE;
    let a0 = coopLoadT<Left>(&sh_left[0u * SIZE], FRAGMENT);
    let a1 = coopLoadT<Left>(&sh_left[1u * SIZE], FRAGMENT);
    let a2 = coopLoadT<Left>(&sh_left[2u * SIZE], FRAGMENT);
    let a3 = coopLoadT<Left>(&sh_left[3u * SIZE], FRAGMENT);
    let b0 = coopLoadT<Right>(&sh_right[0u * SIZE], FRAGMENT);
    let b1 = coopLoadT<Right>(&sh_right[1u * SIZE], FRAGMENT);
    let b2 = coopLoadT<Right>(&sh_right[2u * SIZE], FRAGMENT);
    let b3 = coopLoadT<Right>(&sh_right[3u * SIZE], FRAGMENT);
    var c00 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c01 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c02 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c03 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c10 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c11 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c12 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c13 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c20 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c21 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c22 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c23 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c30 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c31 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c32 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    var c33 = coopLoadT<Sum>(&sh_sums[own], FRAGMENT);
    for (var round = 0u; round < params.rounds; round++) {
        c00 = coopMultiplyAdd(a0, b0, c00);
        c01 = coopMultiplyAdd(a0, b1, c01);
        c02 = coopMultiplyAdd(a0, b2, c02);
        c03 = coopMultiplyAdd(a0, b3, c03);
        c10 = coopMultiplyAdd(a1, b0, c10);
        c11 = coopMultiplyAdd(a1, b1, c11);
        c12 = coopMultiplyAdd(a1, b2, c12);
        c13 = coopMultiplyAdd(a1, b3, c13);
        c20 = coopMultiplyAdd(a2, b0, c20);
        c21 = coopMultiplyAdd(a2, b1, c21);
        c22 = coopMultiplyAdd(a2, b2, c22);
        c23 = coopMultiplyAdd(a2, b3, c23);
        c30 = coopMultiplyAdd(a3, b0, c30);
        c31 = coopMultiplyAdd(a3, b1, c31);
        c32 = coopMultiplyAdd(a3, b2, c32);
        c33 = coopMultiplyAdd(a3, b3, c33);
    }
    var total = 0.0;
    workgroupBarrier();
    coopStoreT(c00, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c01, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c02, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c03, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c10, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c11, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c12, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c13, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c20, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c21, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c22, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c23, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c30, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c31, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c32, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    workgroupBarrier();
    coopStoreT(c33, &sh_sums[own], FRAGMENT);
    workgroupBarrier();
    total += part(own, lane);
    sums[global.x] = total;
}
#endif
