// A tile of weight gradients, built in registers.

#import gradient_elements
#import register_tile

fn first_values(r: u32, c: u32) -> vec4<f32> {
    return first_elements(r, c);
}

fn store_values(r: u32, c: u32, values: vec4<f32>) {
    store_elements(r, c, values);
}

// Stages the tokens from `start` on.
fn stage_tokens(start: u32, depth: u32, first_row: u32, first_column: u32, local: u32) {
    for (var n = local; n < depth * TILE_ROWS / 4u; n += WG_SIZE) {
        let t = n / (TILE_ROWS / 4u);
        let place = n % (TILE_ROWS / 4u);
        sh_slice[t * LEFT_PITCH + place] = left_elements(start + t, first_row + 4u * place);
    }
    for (var n = local; n < depth * TILE_COLUMNS / 4u; n += WG_SIZE) {
        let t = n / (TILE_COLUMNS / 4u);
        let place = n % (TILE_COLUMNS / 4u);
        sh_slice[RIGHT_START + t * RIGHT_PITCH + place] = right_elements(start + t, first_column + 4u * place);
    }
}
