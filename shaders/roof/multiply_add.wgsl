// The roof of arithmetic: chains of fused multiply-adds that touch no memory until their sum is written.
//
// Eight independent vectors of four hide the latency of an instruction; named, so that they stay in registers.

struct Params {
    // Multiply-adds of each chain.
    rounds: u32,
    // What every chain is multiplied with and added to: unknown to the compiler, so that it cannot sum the series up.
    factor: f32,
    addend: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>) {
    let factor = vec4(params.factor);
    let addend = vec4(params.addend);
    var a = vec4(f32(global.x % 7u));
    var b = a + 1.0;
    var c = a + 2.0;
    var d = a + 3.0;
    var e = a + 4.0;
    var f = a + 5.0;
    var g = a + 6.0;
    var h = a + 7.0;
    for (var round = 0u; round < params.rounds; round++) {
        a = fma(a, factor, addend);
        b = fma(b, factor, addend);
        c = fma(c, factor, addend);
        d = fma(d, factor, addend);
        e = fma(e, factor, addend);
        f = fma(f, factor, addend);
        g = fma(g, factor, addend);
        h = fma(h, factor, addend);
    }
    let all = a + b + c + d + e + f + g + h;
    sums[global.x] = all.x + all.y + all.z + all.w;
}
