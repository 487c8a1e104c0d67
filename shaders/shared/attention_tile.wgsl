// What the attention of samples has in common, forward and backward: parameters, the first bindings, and tiles that a
// workgroup of LANES by ROWS invocations goes through in blocks.

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// First token, number of tokens, first token of the sample, end of the sample.
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;

// Queries (or keys) of a tile, and keys (or queries) of a block.
const TILE = 16u;
const BLOCK = 32u;
// Columns of a head that are staged at a time; one more from row to row avoids bank conflicts.
const CHUNK = 32u;
const PITCH = CHUNK + 1u;
// An invocation owns the tile's rows `row` and `row + ROWS`, and of a block's rows or a chunk's columns `lane` and
// `lane + LANES`.
const LANES = 16u;
const ROWS = 8u;
const WG_SIZE = LANES * ROWS;
const CHUNKS = #{HEAD}u / CHUNK;
const SUMS = #{HEAD}u / LANES;

// Where number `n` of a chunk's rows is staged.
fn staged(n: u32) -> u32 {
    return n / CHUNK * PITCH + n % CHUNK;
}

// The columns of QKV in which a head begins.
fn q_offset(head: u32) -> u32 {
    return head * params.head_dim;
}

fn k_offset(kv_head: u32) -> u32 {
    return (params.heads + kv_head) * params.head_dim;
}

fn v_offset(kv_head: u32) -> u32 {
    return (params.heads + params.kv_heads + kv_head) * params.head_dim;
}

fn qkv_place(token: u32, offset: u32, column: u32) -> u32 {
    return token * (params.heads + 2u * params.kv_heads) * params.head_dim + offset + column;
}

// A number from QKV: zero from the token `end` on and beyond the head.
fn qkv_number(token: u32, end: u32, offset: u32, column: u32) -> f32 {
    if token < end && column < params.head_dim {
        return qkv[qkv_place(token, offset, column)];
    }
    return 0.0;
}
