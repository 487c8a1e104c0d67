// Where a query, a key and a value lie in a joint row, for shaders whose params have heads, kv_heads and head_dim.

// Keys (or queries) that are looked at together: one for each invocation of a workgroup.
const BLOCK = 64u;
// The widest head.
const MAX_HEAD_DIM = 256u;
const TILE = 16u;

fn row_width() -> u32 {
    return (params.heads + 2u * params.kv_heads) * params.head_dim;
}

fn query_place(token: u32, head: u32) -> u32 {
    return token * row_width() + head * params.head_dim;
}

fn key_place(token: u32, kv_head: u32) -> u32 {
    return token * row_width() + (params.heads + kv_head) * params.head_dim;
}

fn value_place(token: u32, kv_head: u32) -> u32 {
    return token * row_width() + (params.heads + params.kv_heads + kv_head) * params.head_dim;
}
