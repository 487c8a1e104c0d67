// F = accumulate over units n of G_n with factors rounded to half precision, and sums, G and F in single precision:
// `linear/weight_importance` for matrix units, and for a device without them an emulation that rounds the same.
//
// A unit's tokens share one power of two for each side, the least that any of them allows, so that small gradients keep their
// digits; it depends on the unit alone, and so does G.

#permute ACCUMULATE square magnitude sum
#permute UNIT emulated matrix8 matrix16
#permute EDGES none any
#import accumulate
#import half_scale
#if UNIT == emulated
#define TILE 64
#import gradient_tile
#else
#define LEFT k
#define RIGHT k
#import gradient_elements
#import matrix_tile
#endif

struct Params {
    // Units: the tokens offsets[n] .. offsets[n + 1] are one.
    units: u32,
    rows: u32,
    columns: u32,
    left_stride: u32,
    left_offset: u32,
    right_stride: u32,
    right_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>;
@group(0) @binding(2) var<storage, read> left: array<Gradient>;
@group(0) @binding(3) var<storage, read> right: array<Gradient>;
@group(0) @binding(4) var<storage, read> left_exponents: array<i32>;
@group(0) @binding(5) var<storage, read> right_exponents: array<i32>;
@group(0) @binding(6) var<storage, read_write> result: array<Gradient>;

const LARGEST_POWER = 126;

var<workgroup> sh_powers: array<atomic<i32>, 2>;
// The unit's powers of two, for each side.
var<private> powers: vec2<i32>;

fn accumulate_each(f: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return vec4(accumulate(f.x, g.x), accumulate(f.y, g.y), accumulate(f.z, g.z), accumulate(f.w, g.w));
}

// The unit's gradient without its powers of two.
fn unscaled(sums: vec4<f32>) -> vec4<f32> {
    return sums * power(-powers.x) * power(-powers.y);
}

// Finds the powers of the unit of the tokens begin .. end. Contains barriers.
fn find_powers(begin: u32, end: u32, local: u32) {
    if local < 2u {
        atomicStore(&sh_powers[local], LARGEST_POWER);
    }
    workgroupBarrier();
    for (var t = begin + local; t < end; t += WG_SIZE) {
        atomicMin(&sh_powers[0], left_exponents[t]);
        atomicMin(&sh_powers[1], right_exponents[t]);
    }
    workgroupBarrier();
    powers = vec2(atomicLoad(&sh_powers[0]), atomicLoad(&sh_powers[1]));
    // The next unit's powers come when all have read these: behind the barriers of this one's products.
}

fn scaled_left(token: u32, r: u32) -> vec4<f32> {
    return half_elements(left_elements(token, r) * power(powers.x));
}

fn scaled_right(token: u32, c: u32) -> vec4<f32> {
    return half_elements(right_elements(token, c) * power(powers.y));
}

#if UNIT == emulated
fn fold(f: ptr<function, Sums>, g: Sums) {
    (*f).a0 = accumulate_each((*f).a0, unscaled(g.a0));
    (*f).a1 = accumulate_each((*f).a1, unscaled(g.a1));
    (*f).a2 = accumulate_each((*f).a2, unscaled(g.a2));
    (*f).a3 = accumulate_each((*f).a3, unscaled(g.a3));
    (*f).a4 = accumulate_each((*f).a4, unscaled(g.a4));
    (*f).a5 = accumulate_each((*f).a5, unscaled(g.a5));
    (*f).a6 = accumulate_each((*f).a6, unscaled(g.a6));
    (*f).a7 = accumulate_each((*f).a7, unscaled(g.a7));
}

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_row = group.y * TILE_ROWS;
    let first_column = group.x * TILE_COLUMNS;
    var f = first_sums(first_row, first_column, local);
    for (var unit = 0u; unit < params.units; unit++) {
        let begin = offsets[unit];
        let end = offsets[unit + 1u];
        find_powers(begin, end, local);
        var g = Sums();
        for (var start = begin; start < end; start += DEPTH) {
            let depth = min(DEPTH, end - start);
            for (var n = local; n < depth * TILE_ROWS / 4u; n += WG_SIZE) {
                let t = n / (TILE_ROWS / 4u);
                let place = n % (TILE_ROWS / 4u);
                sh_slice[t * LEFT_PITCH + place] = scaled_left(start + t, first_row + 4u * place);
            }
            for (var n = local; n < depth * TILE_COLUMNS / 4u; n += WG_SIZE) {
                let t = n / (TILE_COLUMNS / 4u);
                let place = n % (TILE_COLUMNS / 4u);
                sh_slice[RIGHT_START + t * RIGHT_PITCH + place] = scaled_right(start + t, first_column + 4u * place);
            }
            workgroupBarrier();
            add_products(&g, 0u, depth, local);
            // The next tokens overwrite what slower invocations may still be reading.
            workgroupBarrier();
        }
        if begin == end {
            workgroupBarrier();
        }
        fold(&f, g);
    }
    store_sums(f, first_row, first_column, local);
}
#else
@compute @workgroup_size(WG_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    let first_row = group.y * TILE_ROWS;
    let first_column = group.x * TILE_COLUMNS;
    let part_row = subgroup / 2u * PART;
    let part_column = subgroup % 2u * PART;
    clear_zeros(local);
    for (var unit = 0u; unit < params.units; unit++) {
        let begin = offsets[unit];
        let end = offsets[unit + 1u];
        find_powers(begin, end, local);
#import matrix_zero
        for (var start = begin; start < end; start += DEPTH) {
            // A fragment's last k are zero where the unit ends within it.
            for (var n = local; n < DEPTH * TILE_ROWS / 4u; n += WG_SIZE) {
                let t = n / (TILE_ROWS / 4u);
                let r = 4u * (n % (TILE_ROWS / 4u));
                var elements = vec4<f32>();
                if start + t < end {
                    elements = scaled_left(start + t, first_row + r);
                }
                stage_left(t * LEFT_PITCH + r, elements);
            }
            for (var n = local; n < DEPTH * TILE_COLUMNS / 4u; n += WG_SIZE) {
                let t = n / (TILE_COLUMNS / 4u);
                let c = 4u * (n % (TILE_COLUMNS / 4u));
                var elements = vec4<f32>();
                if start + t < end {
                    elements = scaled_right(start + t, first_column + c);
                }
                stage_right(t * RIGHT_PITCH + c, elements);
            }
            workgroupBarrier();
            let depth = min(DEPTH, end - start);
#import matrix_multiply
            // The next tokens overwrite what slower invocations may still be reading.
            workgroupBarrier();
        }
#import matrix_store
    }
}

// F stays in memory, where one invocation alone reads and writes it.
fn store_values(r: u32, c: u32, sums: vec4<f32>) {
    store_elements(r, c, accumulate_each(first_elements(r, c), unscaled(sums)));
}
#endif
