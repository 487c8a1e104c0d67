// The number of an invocation in a grid that may use two dimensions, because one holds 65,535 workgroups at most.
// The Rust side makes such grids with `kernels::flat_grid`.

fn flat_index(global: vec3<u32>, groups: vec3<u32>, workgroup_size: u32) -> u32 {
    return global.x + global.y * groups.x * workgroup_size;
}
