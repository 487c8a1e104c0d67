//! A bias in every row, on every device.

use efface::kernels::Window;
use efface::kernels::elementwise::broadcast_rows::{Params, reference, run};
use kernels_tests::{Random, devices};

#[test]
fn every_row_is_the_row_and_nothing_else_changes() {
    let mut random = Random::new("elementwise/broadcast_rows");
    let (tokens, width) = (random.size(1, 40), random.size(1, 300));
    let (stride, offset) = (width + random.size(0, 9), 0);
    let (row, y) = (random.values(width), random.values(tokens * stride));
    let want: Vec<f32> = (0..y.len()).map(|i| if i % stride < width { row[i % stride] } else { y[i] }).collect();
    for device in devices() {
        let (b_row, b_y) = (device.upload_new(&row).unwrap(), device.upload_new(&y).unwrap());
        run(device, tokens, width, &b_row, Window::at(&b_y, stride, offset)).unwrap();
        assert_eq!(device.read::<f32>(&b_y, y.len()).unwrap(), want, "{}", device.name());
    }
    let mut plain = y.clone();
    let params =
        Params { count: (tokens * width) as u32, width: width as u32, stride: stride as u32, offset: offset as u32 };
    reference(&params, &row, &mut plain);
    assert_eq!(plain, want);
}
