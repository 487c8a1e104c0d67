// A number from the gradient at attention's output: zero from the token `end` on and beyond the head.

#import attention_tile

fn d_out_number(token: u32, end: u32, head: u32, column: u32) -> f32 {
    if token < end && column < params.head_dim {
        return d_out[(token * params.heads + head) * params.head_dim + column];
    }
    return 0.0;
}
