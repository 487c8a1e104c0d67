// y[t, c] = start + table[ids[t] - first_row, c] for the tokens whose row lies in this slice of the table.

#permute ELEMENT f32 f16 bf16
#import element
#import flat_index

struct Params {
    tokens: u32,
    // The slice: rows first_row .. first_row + slice_rows of the whole table.
    first_row: u32,
    slice_rows: u32,
    columns: u32,
    y_stride: u32,
    y_offset: u32,
    // 0: the row replaces what is stored in y; 1: it is added to it.
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const WG_SIZE = 256u;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let k = flat_index(global, groups, WG_SIZE);
    if k >= params.tokens * params.columns {
        return;
    }
    let t = k / params.columns;
    let c = k % params.columns;
    // An id below the slice wraps around to a number beyond it.
    let row = ids[t] - params.first_row;
    if row >= params.slice_rows {
        return;
    }
    let index = row * params.columns + c;
    let element = unpack_element(table[element_word(index)], element_half(index));
    let place = t * params.y_stride + params.y_offset + c;
    if params.accumulate == 1u {
        y[place] += element;
    } else {
        y[place] = element;
    }
}
