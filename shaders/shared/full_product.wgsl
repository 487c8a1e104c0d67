// A product in single precision, in a register tile. Its sums start from what is stored in Y, or from zero.

#define UNIT full
#import product
#import product_tile

fn left_elements(token: u32, column: u32) -> vec4<f32> {
    return x_elements(token, column);
}

fn right_elements(row: u32, column: u32) -> vec4<f32> {
    return w_elements(row, column);
}

fn first_values(token: u32, column: u32) -> vec4<f32> {
    return y_elements(token, column);
}

fn store_values(token: u32, column: u32, values: vec4<f32>) {
    store_y(token, column, values);
}
