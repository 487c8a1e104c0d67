// y[t] = table[id_t], or y[t] += table[id_t], for tokens whose row lies in this slice of the table.

#permute ELEMENT f32 f16 bf16
#import element
#import flat_index

struct Params {
    tokens: u32,
    first_row: u32,
    rows: u32,
    columns: u32,
    stride: u32,
    offset: u32,
    // 1: the row is added.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let n = flat_index(global, groups, WG_SIZE);
    if n >= params.tokens * params.columns {
        return;
    }
    let token = n / params.columns;
    let column = n % params.columns;
    // Below the slice the difference wraps around to a large number.
    let row = ids[token] - params.first_row;
    if row >= params.rows {
        return;
    }
    let index = row * params.columns + column;
    let value = unpack_element(table[element_word(index)], element_half(index));
    let place = token * params.stride + params.offset + column;
    if params.accumulate == 1u {
        y[place] += value;
    } else {
        y[place] = value;
    }
}
